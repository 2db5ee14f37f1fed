"""The notebooks in JupyterLab: all cells run, pictures and sliders are there, and a slider that is
moved changes its picture.
"""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from pages import Watch
from playwright.sync_api import expect

ROOT = Path(__file__).parents[2]
SHOWN = {"fig2": (2, 3), "theory": (1, 2), "width": (1, 2)}  # pictures, sliders
PICTURES = ".jp-OutputArea-output img"
ERRORS = ", ".join(
    f".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.{kind}']"
    for kind in ("error", "stderr")
)

PROMPTS = (
    "[...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].map(one => one.textContent)"
)
ENDED = f"errors => document.querySelector(errors) || {PROMPTS}.every(text => /\\d/.test(text))"
CHANGED = """([selector, before]) => {
  const now = [...document.querySelectorAll(selector)].map(one => one.src);
  return now.length === before.length && now.some((one, i) => one !== before[i]);
}"""


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def ready(address, process, seconds=60):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        assert process.poll() is None, "JupyterLab has ended"
        try:
            return urllib.request.urlopen(address, timeout=5).status
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.3)
    raise TimeoutError(address)


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """JupyterLab as `make notebooks` starts it, on a copy, with nobody's settings: its address and
    token.
    """
    folder = tmp_path_factory.mktemp("lab")
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        (folder / "notebooks").mkdir(exist_ok=True)
        shutil.copy(path, folder / "notebooks")
    shutil.copytree(ROOT / "notebooks/small", folder / "notebooks/small")
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "notebooks/wrong.ipynb").write_text(WRONG)
    own = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR",
           "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")  # fmt: skip
    environment = os.environ | {name: str(folder / name.lower()) for name in own}
    port, token = free_port(), secrets.token_hex(16)
    command = [
        sys.executable, "-m", "jupyterlab", "notebooks", "--no-browser", "--allow-root",
        "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={token}",
    ]  # fmt: skip
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            ready(f"http://127.0.0.1:{port}/api?token={token}", process)
            yield f"http://127.0.0.1:{port}/", token
        finally:
            process.terminate()
            process.wait(timeout=30)


def until(page, holds, seconds=60):
    """Wait while the page goes on."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "nothing has changed"
        page.wait_for_timeout(300)


def kernel_ready(page, lab, path):
    """Whether the page is connected to a kernel of this notebook that waits for work."""
    address, token = lab
    sessions = page.request.get(f"{address}api/sessions?token={token}").json()
    return any(
        session["path"] == path
        and session["kernel"]["connections"] > 0
        and session["kernel"]["execution_state"] == "idle"
        for session in sessions
    )


def run_all(page, lab, name):
    """Open a notebook, let all of its cells run, and give what the page complained of."""
    address, token = lab
    watch = Watch(page, address)
    page.set_viewport_size({"width": 1280, "height": 6000})  # what is out of sight is not there
    page.goto(f"{address}lab/workspaces/{name}/tree/{name}.ipynb?token={token}")
    expect(page.locator(".jp-Notebook .jp-CodeCell").first).to_be_visible(timeout=60_000)
    # What is asked of a kernel that is not yet there is forgotten.
    until(page, lambda: kernel_ready(page, lab, f"{name}.ipynb"))
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.wait_for_function(ENDED, arg=ERRORS, timeout=150_000)
    return watch


def went_wrong(page):
    """The errors that a notebook shows."""
    shown = [one.inner_text() for one in page.locator(ERRORS).all()]
    return shown + [one.inner_text() for one in page.locator(".jupyter-widgets-error-widget").all()]


@pytest.mark.parametrize("name", SHOWN)
def test_a_notebook_runs_and_follows_its_sliders(page, lab, name):
    pictures, sliders = SHOWN[name]
    watch = run_all(page, lab, name)
    expect(page.locator(PICTURES)).to_have_count(pictures, timeout=30_000)
    expect(page.locator(".widget-slider")).to_have_count(sliders)
    assert all(one.evaluate("one => one.naturalWidth") > 400 for one in all_of(page, PICTURES))
    # A slider is as wide as a hand needs.
    assert all(one.bounding_box()["width"] > 250 for one in all_of(page, ".noUi-base"))

    for k, slider in enumerate(all_of(page, ".widget-slider")):
        before = sources(page)
        slider.locator(".noUi-handle").press("ArrowRight")
        page.wait_for_function(CHANGED, arg=[PICTURES, before], timeout=20_000)
        assert len(sources(page)) == pictures, k
    readouts = page.locator(".widget-readout").all_inner_texts()
    if name == "theory":  # From -1 and 0 a twelfth to the right.
        assert readouts == ["-11/12", "1/12"]
    assert went_wrong(page) == []
    assert watch.faults == []


def all_of(page, selector):
    return page.locator(selector).all()


def sources(page):
    return [one.get_attribute("src") for one in all_of(page, PICTURES)]


WRONG = """{"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": {"name": "python3",
"display_name": "Python 3", "language": "python"}}, "cells": [{"cell_type": "code", "id": "a",
"metadata": {}, "execution_count": null, "outputs": [], "source":
"import ipywidgets\\nipywidgets.interact(lambda x: 1 / (x - 4), x=(0, 6, 1));"}]}"""


def test_a_slider_that_fails_is_seen(page, lab):
    """Control: it fails when it is moved, and shows no picture."""
    run_all(page, lab, "wrong")
    expect(page.locator(".widget-slider")).to_have_count(1)
    assert went_wrong(page) == []
    page.locator(".noUi-handle").press("ArrowRight")
    expect(page.locator(ERRORS)).to_have_count(1, timeout=20_000)
    assert "ZeroDivisionError" in went_wrong(page)[0]
    assert sources(page) == []

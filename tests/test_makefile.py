"""When `make setup` installs, and with which interpreter: by stand-ins that install nothing."""

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Says that it is Python of some version, makes an environment of itself, and notes what pip does.
STAND_IN = """#!/bin/sh
case "$1 $2" in
  "-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" && echo venv >> "{log}" ;;
  "-m pip") case "$*" in *--version*) ;; *)
    echo install >> "{log}"; echo "$*" > "{log}.pip" ;; esac ;;
  "-m "*) echo "run $2${{JAX_PLATFORMS:+ on $JAX_PLATFORMS}}" >> "{log}" ;;
  -c*) echo "{version}" ; exit {status} ;;
  *) echo "Python {version}" ;;
esac
"""


class Checkout:
    """A folder with the Makefile, stand-ins for interpreters, and what they have done."""

    def __init__(self, folder):
        self.log, self.folder = folder / "log", folder / "check out"
        self.folder.mkdir()
        for name in ("Makefile", "pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, self.folder)
        self.interpreters = folder / "bin"
        self.interpreters.mkdir()
        for name, version, status in (
            ("python3", "3.11", 0),
            ("new", "3.12", 0),
            ("old", "3.9", 1),
        ):
            path = self.interpreters / name
            path.write_text(STAND_IN.format(log=self.log, version=version, status=status))
            path.chmod(0o755)

    def make(self, *arguments, folder=None):
        """What this make did, its exit status and its errors."""
        self.log.write_text("")
        environment = {"PATH": f"{self.interpreters}:{os.environ['PATH']}"}  # No HOME either.
        done = subprocess.run(
            ["make", *arguments], cwd=folder or self.folder, env=environment,
            capture_output=True, text=True,
        )  # fmt: skip
        return self.log.read_text().split("\n")[:-1], done.returncode, done.stderr


@pytest.fixture
def checkout(tmp_path):
    if not shutil.which("make"):
        pytest.skip("no make here")
    return Checkout(tmp_path)


NEW, KEPT, AGAIN = ["venv", "install"], [], ["install"]


def test_an_environment_is_made_once_and_anew_only_for_a_reason(checkout):
    pyproject = checkout.folder / "pyproject.toml"
    assert checkout.make("setup") == (NEW, 0, "")
    assert checkout.make("setup") == (KEPT, 0, "")
    pyproject.touch()
    assert checkout.make("setup") == (KEPT, 0, "")
    pyproject.write_text(pyproject.read_text() + "\n")
    assert checkout.make("setup") == (AGAIN, 0, "")
    assert checkout.make("PYTHON=python3", "setup") == (KEPT, 0, "")
    assert checkout.make("PYTHON=new", "setup") == (NEW, 0, "")  # Another interpreter.
    assert checkout.make("setup") == (KEPT, 0, "")  # Nobody asks for one: it stays.
    checkout.folder = checkout.folder.rename(checkout.folder.with_name("moved"))
    assert checkout.make("setup") == (NEW, 0, "")
    (checkout.folder / ".venv/bin/python").unlink()
    assert checkout.make("setup") == (NEW, 0, "")


@pytest.mark.parametrize(("accel", "platform"), [("cuda13", "cuda"), ("tpu", "tpu")])
def test_an_accelerator_is_installed_once_stays_and_is_used(accel, platform, checkout):
    def extras():
        return checkout.log.with_suffix(".pip").read_text().rpartition(".[")[2].strip()

    assert checkout.make("fig2") == ([*NEW, "run experiments.fig2"], 0, "")
    assert extras() == "experiments,dev]"
    used = f"run experiments.fig2 on {platform}"
    assert checkout.make("fig2", f"ACCEL={accel}") == ([*AGAIN, used], 0, "")
    assert extras() == f"experiments,dev,{accel}]"
    assert checkout.make("fig2", f"ACCEL={accel}") == ([used], 0, "")
    assert checkout.make("setup") == (KEPT, 0, "")
    (checkout.folder / "constraints.txt").write_text("")
    assert checkout.make("setup") == (AGAIN, 0, "")
    assert extras() == f"experiments,dev,{accel}]"


def test_the_lock_is_of_all_extras_but_those_that_disagree_with_jax():
    """PyTorch pins other versions of CUDA's libraries than JAX."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    (locked,) = re.findall(r"^LOCKED := (.*)$", (ROOT / "Makefile").read_text(), re.M)
    assert set(locked.split()) == extras.keys() - {"peers"}


def test_an_accelerator_that_there_is_no_extra_for_is_one_line(checkout):
    done, status, error = checkout.make("setup", "ACCEL=cuda12")
    assert (done, status) == ([], 2)
    assert "ACCEL: must be cuda13 or tpu (got cuda12)" in error
    assert len(error.splitlines()) == 1


def test_tools_run_as_modules_of_the_environment(checkout):
    done, status, _ = checkout.make("check", "bench")
    assert status == 2  # The stand-in has no lint-imports.
    assert done == [*NEW, "run ruff", "run ruff", "run mypy"]


def test_what_can_not_be_done_is_one_line(checkout):
    for asked, named in (("old", "old: Python 3.9"), ("nothing", "nothing: ")):
        done, status, error = checkout.make(f"PYTHON={asked}", "setup")
        assert (done, status) == ([], 2)
        assert f"error: PYTHON: must be Python 3.11 or newer (got {named}" in error.splitlines()[0]
    elsewhere = checkout.folder.parent / "bin"
    done, status, error = checkout.make(
        "-f", f"{checkout.folder}/Makefile", "setup", folder=elsewhere
    )
    assert (done, status) == ([], 2)
    assert f'run it in its own folder: make -C "{checkout.folder}"' in error
    assert checkout.make("-C", str(checkout.folder), "setup", folder=elsewhere) == (NEW, 0, "")


def test_an_interpreter_that_went_is_not_asked_for_while_the_environment_works(checkout):
    assert checkout.make("PYTHON=new", "setup") == (NEW, 0, "")
    (checkout.interpreters / "old").rename(checkout.interpreters / "python3")
    assert checkout.make("setup") == (KEPT, 0, "")

"""The browser that the tests of this folder share: Debian's Chromium, which reaches this machine
alone.
"""

import os
import shutil

import pytest
from playwright.sync_api import sync_playwright

# What CI sets: a missing browser, or anything skipped, is an error there.
NEEDED = "LORA_THEORY_NEEDS_BROWSER"
# Names of other hosts lead nowhere, also for what the browser itself asks.
ALONE = ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]


@pytest.fixture(scope="session")
def browser():
    program = shutil.which("chromium")
    if program is None:
        (pytest.fail if os.environ.get(NEEDED) else pytest.skip)("no Chromium here")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=ALONE)
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    context = browser.new_context()
    yield context.new_page()
    context.close()


def pytest_sessionfinish(session):
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get(NEEDED) and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED

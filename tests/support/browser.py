"""Headless Chromium for the pages that minicnn writes; tests that need one skip, saying so, where there is none."""

import json
import os
import shutil
from contextlib import contextmanager

import pytest

__all__ = ["chromium", "resize"]

_FLAGS = ["--headless=new", "--disable-gpu", "--disable-extensions", "--no-first-run", "--disable-background-networking",
          "--disable-dev-shm-usage", "--force-device-scale-factor=1", "--hide-scrollbars"]


@contextmanager
def chromium(folder):
    """Open a browser whose profile lies in `folder`.

    `browser.complaints()` returns what the console has said since the last call, `browser.requests()` the addresses that
    pages asked for.
    """
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("needs Debian's chromium and chromium-driver, which are not installed")
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium, which is not installed")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = program
    # The sandbox of Chromium refuses to work for root, as whom containers run.
    for flag in [*_FLAGS, f"--user-data-dir={folder}", *(["--no-sandbox"] if os.geteuid() == 0 else [])]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options, Service(driver))
    browser.complaints = lambda: [entry["message"] for entry in browser.get_log("browser")]
    browser.requests = lambda: _requests(browser)
    try:
        yield browser
    finally:
        browser.quit()


def resize(browser, width, height=900):
    """Give the page a size in CSS pixels, that of a phone's too."""
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600})


def _requests(browser):
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [message["params"] for message in messages if message["method"] == "Network.requestWillBeSent"]
    # The browser's own first page asks for things of its own.
    return [one["request"]["url"] for one in asked if not one["documentURL"].startswith("chrome:")]

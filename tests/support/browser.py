"""Debian's Chromium without a window, for pages that are files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

BROWSER, BROWSER_PACKAGE = "chromium", "chromium"
DRIVER, DRIVER_PACKAGE = "chromedriver", "chromium-driver"
_LOAD_SECONDS = 60
_ARGUMENTS = (
    "--headless",
    "--no-sandbox",  # root has no other way
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


class Browser:
    """A running browser, and what it saw.

    Args:
        driver: the session with it.
    """

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver
        self._runs_scripts = True

    def open(self, page: Path) -> None:
        """Show a file; what was in the logs before is forgotten."""
        self.console()
        self.requests()
        self.driver.get(page.as_uri())
        if self._runs_scripts:
            self._wait_until_complete()

    def run(self, script: str, *arguments: Any) -> Any:
        """Return what a script returns. The policy of a page does not hold for it."""
        self._wait_until_complete()
        return self.driver.execute_script(script, *arguments)

    def console(self) -> list[str]:
        """Return the messages in the console since the last look, among them what a policy refused."""
        return [str(entry["message"]) for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Return the addresses that files asked for since the last look, whatever came of it.

        The browser's own pages, with which it starts, are not of interest, and may still be busy.
        """
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
        return [str(sending["request"]["url"]) for sending in sent if sending["documentURL"].startswith("file:")]

    def emulate(self, *, scheme: str = "light", media: str = "") -> None:
        """Take the side of a preference and a medium."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})

    def resize(self, width: int, height: int = 900) -> None:
        """Take the width and height of a screen."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def allow_scripts(self, allowed: bool) -> None:
        """Let the pages opened from now on run scripts, or not."""
        self.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not allowed})
        self._runs_scripts = allowed

    def _wait_until_complete(self) -> None:
        """Wait for the end of the page: on a busy machine the driver says too early that a file was loaded."""
        WebDriverWait(self.driver, _LOAD_SECONDS, poll_frequency=0.05).until(
            lambda driver: driver.execute_script("return document.readyState") == "complete"
        )


@contextmanager
def start_browser(binary: str, driver: str, profile: Path) -> Iterator[Browser]:
    """Run a browser with a profile of its own."""
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in (*_ARGUMENTS, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    session = webdriver.Chrome(options=options, service=Service(executable_path=driver))
    try:
        yield Browser(session)
    finally:
        session.quit()

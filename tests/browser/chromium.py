"""A real Chromium, and what it says about the pages: its console, and every request that it made."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

CHROMIUM = Path("/usr/bin/chromium")
CHROMEDRIVER = Path("/usr/bin/chromedriver")
ARGUMENTS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
WAIT_S = 30


class Browser:
    """A page in Chromium, used as a person does."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver
        self.excused = ["favicon"]
        """Parts of what the console may say: Chromium says so of every answer that is an error."""

    def open(self, url: str) -> None:
        self.driver.get(url)

    def find(self, selector: str) -> WebElement:
        """Return the first element that is shown; wait for it."""
        return self._wait().until(lambda _: self._shown(selector))

    def _wait(self) -> WebDriverWait[webdriver.Chrome]:
        """Wait for a page that may change under our hands."""
        changing = [StaleElementReferenceException]
        return WebDriverWait(self.driver, WAIT_S, ignored_exceptions=changing)

    def _shown(self, selector: str) -> WebElement | None:
        found = self.driver.find_elements(By.CSS_SELECTOR, selector)
        return next((element for element in found if element.is_displayed()), None)

    def text(self, selector: str) -> str:
        return self.find(selector).text

    def wait_text(self, selector: str, part: str) -> str:
        """Wait until the element says `part`; return all that it says."""
        self._wait().until(lambda _: part in self.text(selector))
        return self.text(selector)

    def click(self, selector: str) -> None:
        self.find(selector).click()

    def go(self, operation: str) -> Browser:
        """Follow a link of the contents; return once its part is shown."""
        link = f'#side a[href="#{operation}"]'
        self.click(link)
        self.find(f"{link}[aria-current]")
        return self

    def tab(self, name: str) -> None:
        """Choose one of the tabs that are shown."""
        tabs = self.driver.find_elements(By.CSS_SELECTOR, "[role=tab]")
        next(tab for tab in tabs if tab.is_displayed() and tab.text == name).click()

    def choose(self, selector: str, text: str) -> None:
        Select(self.find(selector)).select_by_visible_text(text)

    def type(self, selector: str, text: str) -> None:
        """Replace what a field holds."""
        field = self.find(selector)
        field.clear()
        field.send_keys(text)

    def console(self) -> list[str]:
        """Return what the console says since the last time, violations of the policy included."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def assert_quiet(self, host: str) -> None:
        """Nothing was said in the console since the last time, and no other host was asked."""
        said = [line for line in self.console() if not any(part in line for part in self.excused)]
        assert said == []
        assert self.hosts() <= {host}

    def hosts(self) -> set[str]:
        """Return every host that a request went to since the last time."""
        hosts = set()
        for entry in self.driver.get_log("performance"):
            message: dict[str, Any] = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                url = urlsplit(message["params"]["request"]["url"])
                if url.scheme in ("http", "https", "ws", "wss"):  # all others stay in the browser
                    hosts.add(url.netloc)
        return hosts


@contextmanager
def chromium(folder: Path, *, width: int = 1280, height: int = 900) -> Iterator[Browser]:
    """Start a browser with nothing in it."""
    options = Options()
    options.binary_location = str(CHROMIUM)
    for argument in (*ARGUMENTS, f"--user-data-dir={folder}", f"--window-size={width},{height}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(CHROMEDRIVER)))
    try:
        yield Browser(driver)
    finally:
        driver.quit()

"""An audit of a page by axe-core, pictures of it, and its two colour schemes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from .chromium import Browser

AXE = Path(sys.prefix) / "node" / "node_modules" / "axe-core" / "axe.min.js"
"""Where the Makefile puts it."""

_RUN = """
const done = arguments[arguments.length - 1];
const options = {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]};
axe.run(document, options).then(
  (found) => done(found.violations.map((each) => [each.id, each.nodes.map((node) => node.html.slice(0, 200)
    + " | " + (node.any[0]?.message ?? node.all[0]?.message ?? "").slice(0, 160))])),
  (error) => done([["failed", [String(error)]]]),
);
"""


def violations(browser: Browser) -> list[Any]:
    """Return what axe-core finds wrong with the page as it is shown now.

    It comes through the debugger, as the page's own policy lets no script in; the policy complains of the
    styles that axe-core tries to add, so look at the console before.
    """
    browser.driver.execute_script(AXE.read_text())
    found: list[Any] = browser.driver.execute_async_script(_RUN)
    return found


def scheme(browser: Browser, name: str) -> None:
    """Show the page as for somebody who prefers "light" or "dark"."""
    features = [
        {"name": "prefers-color-scheme", "value": name},
        {"name": "prefers-reduced-motion", "value": "reduce"},  # colours change at once
    ]
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def narrow(browser: Browser, width: int = 390, height: int = 844) -> None:
    """Show the page on a phone."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": True}
    browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def wide(browser: Browser) -> None:
    browser.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def is_too_wide(browser: Browser) -> bool:
    script = "return document.documentElement.scrollWidth > window.innerWidth"
    return bool(browser.driver.execute_script(script))


def cut_tables(browser: Browser) -> list[str]:
    """Return the names of the tables of which a part is out of sight, until somebody scrolls sideways."""
    script = """return [...document.querySelectorAll(".sheet")]
      .filter((each) => each.offsetParent && each.scrollWidth > each.clientWidth + 1)
      .map((each) => each.getAttribute("aria-label"))"""
    found: list[str] = browser.driver.execute_script(script)
    return found


def keep(browser: Browser, name: str) -> None:
    """Keep a picture of the whole page where somebody asked for them."""
    if folder := os.environ.get("SCREENSHOTS"):
        import base64

        picture = browser.driver.execute_cdp_cmd(
            "Page.captureScreenshot", {"captureBeyondViewport": True, "fromSurface": True}
        )
        Path(folder).mkdir(parents=True, exist_ok=True)
        Path(folder, f"{name}.png").write_bytes(base64.b64decode(picture["data"]))

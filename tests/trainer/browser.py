"""A real browser, where there is one: what a page shows, says on the console, and asks of the network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@dataclass(frozen=True)
class Visit:
    """What came of opening a page: its document once scripts have run, console messages, addresses it asked for."""

    document: str
    console: list[str]
    requests: list[str]


def browser() -> str:
    """The browser of SHOPTALK_TEST_BROWSER, or the first on PATH; the test is skipped where there is none."""
    found = os.environ.get("SHOPTALK_TEST_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)
    if not found:
        pytest.skip("no Chromium on PATH; name one with SHOPTALK_TEST_BROWSER")
    return found


def visit(page: Path, folder: Path) -> Visit:
    """Open a page in a fresh profile in ``folder``; names resolve to nothing, so what is asked is only noted."""
    log = folder / "network.json"
    result = subprocess.run(
        [
            browser(),
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            f"--user-data-dir={folder / 'profile'}",
            f"--log-net-log={log}",
            "--enable-logging=stderr",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    console = [line for line in result.stderr.splitlines() if "CONSOLE" in line]
    return Visit(result.stdout, console, _asked_by_pages(log))


def _asked_by_pages(log: Path) -> list[str]:
    """The addresses that pages asked for: what the browser asks on its own account has no page as its initiator."""
    found = []
    for event in json.loads(log.read_text())["events"]:
        parameters = event.get("params", {})
        if parameters.get("initiator", "not an origin") != "not an origin" and "url" in parameters:
            found.append(parameters["url"])
    return sorted(set(found))

"""The system's Chromium, driven by playwright: `make tools` installs it where apt-get is at hand."""

from __future__ import annotations

import os
import shutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from playwright.async_api import async_playwright

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser

NAMES = ("chromium", "chromium-browser", "google-chrome")
MISSING = "NO CHROMIUM ON PATH: the status page is not tested; run `make tools`, or install chromium"


def chromium() -> str:
    """Return the program. A test skips without it only where nobody could have installed it for the tests."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        is_ours_to_install = os.geteuid() == 0 and shutil.which("apt-get") is not None
        if os.environ.get("CI") or is_ours_to_install:
            pytest.fail(MISSING)
        pytest.skip(MISSING)
    return found


@asynccontextmanager
async def browsing() -> AsyncIterator[Browser]:
    """Run one browser."""
    program = chromium()
    # Chromium's sandbox refuses root; what is shown here is our own page.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        await browser.close()

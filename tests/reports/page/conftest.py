"""A real headless browser, and folders of records to look at."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

_ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage"]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium; where it must be there (STOCKPOT_REQUIRE_BROWSER), its absence is a failure."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    required = bool(os.environ.get("STOCKPOT_REQUIRE_BROWSER"))
    if path is None and not required:
        pytest.skip("no Chromium is installed")
    assert path is not None, "STOCKPOT_REQUIRE_BROWSER is set, but there is no Chromium"
    if not required:
        pytest.importorskip("playwright")
    from playwright import sync_api

    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        yield found
        found.close()

"""One browser for all tests, a fresh profile for each; and what every page must keep, whatever the test is about.

Tests are coroutines on one loop of their own: Playwright's other interface would leave a loop running in this thread.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from tests.support.browsing import OpenTab
from tests.support.gallery import fill
from tests.support.pages_site import serve

_LIMIT_MS = 10_000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests here are on the browser's loop."""
    here = Path(__file__).parent
    for item in items:
        if item.path.parent == here:
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    chromium = shutil.which("chromium")
    if chromium is None:
        if os.environ.get("CI") == "true":
            pytest.fail("there is no chromium, and continuous integration must test with it")
        pytest.skip("there is no chromium on this machine")
    async with async_playwright() as playwright:
        # Its own sandbox needs user namespaces, which root in a container often lacks.
        launched = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield launched
        await launched.close()


@pytest_asyncio.fixture(loop_scope="session")
async def open_tab(browser: Browser) -> AsyncIterator[OpenTab]:
    """Opens tabs that nobody used, with what else Playwright's `new_context` takes."""
    contexts: list[BrowserContext] = []

    async def opened(**options: Any) -> Page:
        contexts.append(context := await browser.new_context(reduced_motion="reduce", **options))
        context.set_default_timeout(_LIMIT_MS)
        return await context.new_page()

    yield opened
    for context in contexts:
        await context.close()


@pytest_asyncio.fixture(loop_scope="session")
async def page(open_tab: OpenTab) -> AsyncIterator[Page]:
    """A tab in which no page may complain, nor ask another server for anything."""
    tab = await open_tab(viewport={"width": 1280, "height": 900})
    faults: list[str] = []
    origins: set[str] = set()
    tab.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.on("request", lambda request: origins.add("{0.scheme}://{0.netloc}".format(urlsplit(request.url))))
    yield tab
    assert faults == []
    assert len(origins) == 1, f"asked: {origins}"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def host(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """Where the gallery's modules are hosted."""
    root = tmp_path_factory.mktemp("library")
    fill(root)
    async with serve(root) as url:
        yield url

"""One browser for all tests, a fresh profile for each; and what every page must keep, whatever the test is about.

Tests are coroutines on one loop of their own: Playwright's other interface would leave a loop running in this thread.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from tests.support.browsing import OpenTab
from tests.support.gallery import GALLERY_MODELS, fill
from tests.support.host import Host
from tests.support.waiting import wait_until

_LIMIT_MS = 15_000
expect.set_options(timeout=_LIMIT_MS)


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


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where `hubd host` has the gallery's modules."""
    directory = tmp_path_factory.mktemp("host")
    running = Host(directory)
    fill(running.library)
    with running:
        wait_until(lambda: _is_packed(running, GALLERY_MODELS))
        yield running.url


def _is_packed(running: Host, models: int) -> bool:
    """Whether all is known of the newest version of so many models."""
    listed = json.loads(running.get("/api/models").body)["models"]
    return len(listed) == models and all(model["digest"] for model in listed)

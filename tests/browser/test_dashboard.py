"""The dashboard of a real daemon in a real browser. That no page complains or asks another server holds here too."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self
from urllib.parse import quote

import pytest
from playwright.async_api import Browser, Page, expect

from tests.support.archives import MODULE, archive
from tests.support.axe import violations
from tests.support.daemon import Daemon
from tests.support.dashboard import listening_on, wait_until_open
from tests.support.origin import Answer, Origin
from tests.support.ports import reserved_port

expect.set_options(timeout=15_000)
ARCHIVE = archive()
LARGE = archive({**MODULE, "assets/random": Random(7).randbytes(3 << 20)})
MARK = "\u202e"  # turns the direction of writing
HOSTILE = f"/\"><img/src=x/onerror=\"document.title='taken'\"><script>document.title='taken'</script>{MARK}/1"


class Shown:
    """A daemon, and where its dashboard is."""

    def __init__(self, directory: Path) -> None:
        self._holding = ExitStack()
        self._port = self._holding.enter_context(reserved_port())
        self.url = f"http://localhost:{self._port}/"
        self.daemon = Daemon(directory, config=listening_on(self._port))

    def start(self) -> None:
        self.daemon.start()
        wait_until_open(self._port)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._holding.close()
        self.daemon.__exit__(kind, error, trace)

    async def resolve(self, handle: str) -> int:
        """The status of the answer."""
        return (await asyncio.to_thread(self.daemon.resolve, handle))[0]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    running = Shown(tmp_path_factory.mktemp("daemon"))
    with running:
        yield running


async def test_it_moves_while_a_module_is_fetched(shown: Shown, page: Page, origin: Origin) -> None:
    answer = Answer(LARGE, bytes_per_second=100_000)
    handle = origin.serve("/moving/1", answer)
    await page.goto(shown.url)
    await expect(page.get_by_text("Live.")).to_be_visible()
    fetching = asyncio.create_task(shown.resolve(handle))
    bar = page.get_by_role("progressbar", name=handle)
    await expect(bar).not_to_have_js_property("value", 0)  # it is drawn before the first byte comes
    seen = await bar.evaluate("bar => bar.value")
    assert 0 < seen < len(LARGE)
    await page.wait_for_function("seen => document.querySelector('progress').value > seen", arg=seen)
    answer.bytes_per_second = None
    await expect(page.get_by_role("row").filter(has_text=handle)).to_contain_text("in use")
    await expect(bar).to_have_count(0)
    await expect(page.get_by_role("img", name="Bytes received by the minute")).to_be_visible()
    assert await fetching == 200


async def test_without_scripts_it_is_as_of_when_it_was_loaded(shown: Shown, browser: Browser, origin: Origin) -> None:
    async with await browser.new_context(java_script_enabled=False) as context:
        page = await context.new_page()
        await page.goto(shown.url)
        handle = origin.serve("/later/1", Answer(ARCHIVE))
        await shown.resolve(handle)
        # What is shown is at most a second old, and nobody watches who would have it gathered anew.
        for _ in range(50):
            await page.get_by_role("link", name="Reload").click()
            if await page.get_by_role("row").filter(has_text=handle).count():
                break
        await expect(page.get_by_role("row").filter(has_text=handle)).to_be_visible()
        await expect(page.locator("button")).to_be_hidden()


async def test_a_hostile_handle_is_words(shown: Shown, page: Page, origin: Origin) -> None:
    origin.serve(HOSTILE.replace(MARK, quote(MARK)), Answer(ARCHIVE))
    await page.goto(shown.url)
    assert await shown.resolve(f"http://127.0.0.1:{origin.port}{HOSTILE}") == 200
    cell = page.get_by_role("cell").filter(has_text="onerror")
    await expect(cell).to_contain_text(HOSTILE)
    await expect(page).to_have_title("hubd")
    assert await page.locator("main img, main script, main [onerror]").count() == 0


async def test_who_reads_at_the_end_of_a_wide_table_stays_there(shown: Shown, page: Page, origin: Origin) -> None:
    await page.set_viewport_size({"width": 390, "height": 900})
    assert await shown.resolve(origin.serve("/there-already/1", Answer(ARCHIVE))) == 200
    await page.goto(shown.url)
    table = page.get_by_role("group", name="Modules")
    await table.focus()
    assert (left := await table.evaluate("box => { box.scrollLeft = 1000; return box.scrollLeft }")) > 0
    handle = origin.serve("/new/1", Answer(ARCHIVE))
    assert await shown.resolve(handle) == 200
    await expect(page.get_by_role("row").filter(has_text=handle)).to_have_count(1)
    await expect(table).to_be_focused()
    assert await table.evaluate("box => box.scrollLeft") == left


async def test_axe_finds_nothing_and_it_is_no_wider_than_the_screen(shown: Shown, page: Page, origin: Origin) -> None:
    answer = Answer(LARGE, gate_after_bytes=1 << 20)
    handle = origin.serve("/a-publisher-with-quite-a-name/image/feature-vector/1", answer)
    await shown.resolve(origin.serve("/none/1", Answer(status=404)))
    await shown.resolve(origin.serve("/some/1", Answer(ARCHIVE)))
    fetching = asyncio.create_task(shown.resolve(handle))
    await page.goto(shown.url)
    await expect(page.get_by_role("progressbar", name=handle)).to_be_visible()
    await expect(page.get_by_role("cell", name="upstream-not-found")).to_be_visible()
    found = {}
    for width in (390, 1280):
        await page.set_viewport_size({"width": width, "height": 900})
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
        await page.emulate_media(color_scheme="light")
        found[width, "light"] = await violations(page)
        await page.emulate_media(color_scheme="dark")
        found[width, "dark"] = await violations(page)
    answer.gate.set()
    assert await fetching == 200
    assert found == {key: [] for key in found}


async def test_a_page_that_lost_the_daemon_says_so_and_finds_it_again(tmp_path: Path, browser: Browser) -> None:
    shown = Shown(tmp_path)
    async with await browser.new_context() as context:
        page = await context.new_page()
        with shown:
            await page.goto(shown.url)
            await expect(page.get_by_text("Live.")).to_be_visible()
            await asyncio.to_thread(shown.daemon.stop)
            await expect(page.get_by_text("Not connected")).to_be_visible()
            await asyncio.to_thread(shown.start)
            await expect(page.get_by_text("Live.")).to_be_visible()

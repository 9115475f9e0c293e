"""The keeper of prefetch files, with a real cache and origin, told of changes by the test."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hubclient.contract.handles import canonical, key
from hubclient.contract.lock_file import Locked, dump
from hubd.config import PrefetchSettings
from hubd.fetching.means import Means
from hubd.fetching.resolver import Resolver
from hubd.network.session import Session
from hubd.network.sources import HttpSource
from hubd.prefetching.duties import FileStatus
from hubd.prefetching.keeper import Keeper
from hubd.store.adoption import adopt
from tests.support.archives import MODULE, archive
from tests.support.means import NETWORK, means_of
from tests.support.origin import Answer, Asked, Origin, in_turn

DAY = 86400.0


class _House:
    """A daemon's inside without its socket, with a directory of prefetch files."""

    def __init__(self, means: Means, resolver: Resolver, directory: Path) -> None:
        self.means = means
        self._directory = directory
        self._events: asyncio.Queue[None] = asyncio.Queue()
        self.keeper = Keeper(means, resolver, self._follow)

    async def _follow(self, _: str | None) -> AsyncGenerator[None]:
        while True:
            await self._events.get()
            yield

    def write(self, name: str, text: str) -> None:
        staged = self._directory / f".{name}"
        staged.write_text(text)
        staged.chmod(0o644)
        staged.rename(self._directory / name)
        self._events.put_nowait(None)

    def remove(self, name: str) -> None:
        (self._directory / name).unlink()
        self._events.put_nowait(None)

    def status(self, name: str = "a.toml") -> FileStatus | None:
        return next((one for one in self.keeper.status() if one.name == name), None)

    async def until(self, holds: Callable[[FileStatus], bool], name: str = "a.toml") -> FileStatus:
        """The status of a file as soon as it is like that."""
        async with asyncio.timeout(20):
            while (status := self.status(name)) is None or not holds(status):
                await asyncio.sleep(0.01)
        return status

    def age(self, handle: str, seconds: float) -> None:
        """As if the origin had last said so long ago what the module is."""
        then = datetime.now(UTC) - timedelta(seconds=seconds)
        changed = self.means.amend(
            key(canonical(handle)), lambda now: now and now.model_copy(update={"fetched_at": then}), is_use=False
        )
        assert changed is not None


@asynccontextmanager
async def _house(tmp_path: Path, concurrent_fetches: int = 4) -> AsyncIterator[_House]:
    directory = tmp_path / "prefetch.d"
    directory.mkdir(mode=0o755, exist_ok=True)
    with adopt(str(tmp_path / "cache"), socket="/s") as hold, ThreadPoolExecutor(4) as threads:
        async with Session(NETWORK) as session, asyncio.TaskGroup() as group:
            means = means_of(hold.layout, HttpSource(session), threads, spawn=group.create_task)
            network = NETWORK.model_copy(update={"concurrent_fetches": concurrent_fetches})
            prefetch = PrefetchSettings(dir=str(directory))
            means = replace(
                means, settings=means.settings.model_copy(update={"network": network, "prefetch": prefetch})
            )
            await asyncio.to_thread(_scan, means)
            house = _House(means, Resolver(means, group.create_task), directory)
            await house.keeper.look()
            keeping = group.create_task(house.keeper.run())
            yield house
            keeping.cancel()
            means.grace.release_all()
            means.verifier.close()


def _scan(means: Means) -> None:
    for record_key in list(means.records.keys()):
        means.records.load(record_key)


def _is_ok(status: FileStatus) -> bool:
    return status.state == "ok"


def _has_failed(status: FileStatus) -> bool:
    return status.failed > 0


def _later(hours: float) -> str:
    """A window of an hour that opens so many hours from now."""
    start, end = (datetime.now() + timedelta(hours=more) for more in (hours, hours + 1))
    return f"{start:%H:%M}-{end:%H:%M}"


def _module(name: str = "") -> bytes:
    return archive({**MODULE, "assets/name": name.encode()})


async def test_a_file_is_fetched_and_pinned_until_it_is_gone(tmp_path: Path, origin: Origin) -> None:
    async with _house(tmp_path) as house:
        handle = origin.serve("/m/1", Answer(_module()))
        house.write("a.toml", f'handles = ["{handle}"]\npin = true')
        status = await house.until(_is_ok)
        assert status == FileStatus("a.toml", "ok", None, None, modules=1, done=1, failed=0, pinned=1, next_run_at=None)
        assert house.means.evictor.pins.of(key(canonical(handle))) == ("a.toml",)
        record = house.means.records.get(key(canonical(handle)))
        assert record is not None
        assert not record.pinned  # that is an administrator's own, and stays when the file goes
        house.remove("a.toml")
        async with asyncio.timeout(20):
            while key(canonical(handle)) in house.means.evictor.pins:
                await asyncio.sleep(0.01)
        assert house.status() is None


async def test_what_is_there_costs_no_request_no_use_and_no_lease(tmp_path: Path, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(_module()))
    async with _house(tmp_path) as house:
        house.write("a.toml", f'handles = ["{handle}"]')
        await house.until(_is_ok)
        counters = vars(house.means.counters).copy()
    record = f"{tmp_path}/cache/handles/{key(canonical(handle))}.json"
    os.utime(record, (1000.0, 1000.0))
    async with _house(tmp_path) as house:
        await house.until(_is_ok)
        assert os.stat(record).st_mtime == 1000.0
        assert {name for name, value in vars(house.means.counters).items() if value} == set()
        assert not house.means.trees.is_held(house.means.records.catalog.entries()[0].digest)
    assert (counters["fetched"], len(origin.asked("/m/1"))) == (1, 1)


async def test_outside_its_window_a_file_looks_and_fetches_nothing(tmp_path: Path, origin: Origin) -> None:
    async with _house(tmp_path) as house:
        there, missing = (origin.serve(path, Answer(_module())) for path in ("/there/1", "/missing/1"))
        house.write("b.toml", f'handles = ["{there}"]')
        await house.until(_is_ok, "b.toml")
        house.write("a.toml", f'handles = ["{there}", "{missing}"]\nwindow = "{_later(2)}"')
        status = await house.until(lambda one: one.done == 1)
        assert (status.state, status.failed) == ("waiting", 0)
        assert status.next_run_at is not None
        assert 3600 < status.next_run_at - time.time() < 2 * 3600 + 1
        house.write("a.toml", f'handles = ["{there}", "{missing}"]\nwindow = "{_later(-0.5)}"')
        await house.until(_is_ok)
        assert (len(origin.asked("/there/1")), len(origin.asked("/missing/1"))) == (1, 1)


async def test_a_refresh_is_a_conditional_request_and_only_for_what_can_change(tmp_path: Path, origin: Origin) -> None:
    async with _house(tmp_path) as house:
        latest, version = (origin.serve(path, Answer(_module(), etag='"1"')) for path in ("/latest", "/m/1"))
        text = f'handles = ["{latest}", "{version}"]\nrefresh = "2d"'
        house.write("a.toml", text)
        status = await house.until(_is_ok)
        assert status.next_run_at is not None
        assert abs(status.next_run_at - time.time() - 2 * DAY) < 60
        for handle in (latest, version):
            house.age(handle, 3 * DAY)
        house.write("a.toml", f"{text}\n")
        await house.until(lambda one: one.state == "ok" and len(origin.asked("/latest")) == 2)
        assert origin.asked("/latest")[1].headers["If-None-Match"] == '"1"'
        assert len(origin.asked("/m/1")) == 1
        assert house.means.counters.received_bytes == 2 * len(_module())


async def test_what_fails_is_told_and_tried_again_later_or_when_the_file_changes(
    tmp_path: Path, origin: Origin
) -> None:
    async with _house(tmp_path) as house:
        handle = origin.serve("/m/1", in_turn(Answer(status=503), Answer(_module())))
        other = origin.serve("/other/1", Answer(_module()))
        text = f'handles = ["{handle}?key=secret", "{other}"]'
        house.write("a.toml", text)
        status = await house.until(lambda one: one.failed == one.done == 1)
        assert status.state == "waiting"
        assert f"{handle}: " in (status.failure or "")
        assert "[upstream-unavailable]" in (status.failure or "")
        assert "secret" not in (status.failure or "")
        assert status.next_run_at is not None
        assert 0 < status.next_run_at - time.time() <= 31
        house.write("a.toml", f"{text}\n")
        assert (await house.until(_is_ok)).failure is None
        assert len(origin.asked("/other/1")) == 1


async def test_an_old_copy_that_could_not_be_renewed_is_a_failure(tmp_path: Path, origin: Origin) -> None:
    async with _house(tmp_path) as house:
        latest = origin.serve("/latest", in_turn(Answer(_module()), Answer(status=503)))
        house.write("a.toml", f'handles = ["{latest}"]\nrefresh = "1h"')
        await house.until(_is_ok)
        house.age(latest, DAY)
        house.write("a.toml", f'handles = ["{latest}"]\nrefresh = "2h"')
        status = await house.until(_has_failed)
        assert (status.state, status.done) == ("ok", 1)
        assert "this copy may be old" in (status.failure or "")


async def test_urgent_files_come_first_and_no_more_than_may_run(tmp_path: Path, origin: Origin) -> None:
    async with _house(tmp_path, concurrent_fetches=1) as house:
        order: list[str] = []

        def answer(asked: Asked) -> Answer:
            order.append(asked.target.split("/")[1])
            assert asked.at_once == 1
            return Answer(_module(asked.target))

        gate = Answer(_module("first"), gate_after_bytes=1)
        house.write("b.toml", f'handles = ["{origin.serve("/first/1", gate)}"]')
        await asyncio.to_thread(origin.wait_until_asked, "/first/1")
        for name, priority in (("low", "low"), ("normal", "normal"), ("high", "high")):
            handle = origin.serve(f"/{name}/1", answer)
            house.write(f"{name}.toml", f'handles = ["{handle}"]\npriority = "{priority}"')
            await house.until(lambda one: one.modules == 1, f"{name}.toml")
        gate.gate.set()
        await house.until(_is_ok, "low.toml")
        assert order == ["high", "normal", "low"]


async def test_a_lock_file_means_content_whatever_bytes_bring_it(tmp_path: Path, origin: Origin) -> None:
    async with _house(tmp_path) as house:
        handle = origin.serve("/m/1", Answer(_module()))
        house.write("b.toml", f'handles = ["{handle}"]')
        await house.until(_is_ok, "b.toml")
        digest = house.means.records.catalog.entries()[0].digest
        manifest = house.means.trees.manifest(digest)
        assert manifest is not None
        for name, content in (("same", manifest.content_digest), ("other", "3" * 64)):
            house.write(f"{name}.lock", dump([Locked(handle, "2" * 64, content, 1)]).decode())
            house.write(f"{name}.toml", f'lock = "{name}.lock"')
        await house.until(_is_ok, "same.toml")
        status = await house.until(_has_failed, "other.toml")
        assert "[digest-mismatch]" in (status.failure or "")
        assert status.next_run_at is not None
        assert status.next_run_at - time.time() > 3600  # it does not pass by itself


async def test_a_broken_file_harms_nothing_and_keeps_its_pins(tmp_path: Path, origin: Origin) -> None:
    async with _house(tmp_path) as house:
        handle = origin.serve("/m/1", Answer(_module()))
        house.write("a.toml", f'handles = ["{handle}"]\npin = true')
        await house.until(_is_ok)
        house.write("a.toml", "handels = []")
        status = await house.until(lambda one: one.state == "broken")
        assert 'did you mean "handles"?' in (status.problem or "")
        assert (status.done, status.pinned) == (1, 1)
        assert house.means.evictor.pins.of(key(canonical(handle))) == ("a.toml",)
        house.write("b.toml", f'handles = ["{handle}"]')
        await house.until(_is_ok, "b.toml")

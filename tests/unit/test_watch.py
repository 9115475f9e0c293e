"""The watch: what others removed is put right by what is there, and the daemon's own changes are left alone."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hubd.fetching.means import Means
from hubd.fetching.resolver import Ask, Resolver
from hubd.fetching.watch import Events, Watch
from hubd.network.session import Session
from hubd.network.sources import HttpSource
from hubd.store.adoption import adopt
from hubd.store.layout import StoreLayout
from hubd.store.records import Record
from tests.support.archives import MODULE, archive
from tests.support.means import NETWORK, means_of
from tests.support.origin import Answer, Origin


class _House:
    """A daemon's inside without its socket, watched by events that the test sends."""

    def __init__(self, means: Means, resolver: Resolver) -> None:
        self.means = means
        self.resolver = resolver
        self.events: asyncio.Queue[Collection[str]] = asyncio.Queue()
        self.warnings: list[str] = []
        self.watch = Watch(means, resolver, self.warnings.append, self._told, self._swept, pause_seconds=0)

    @property
    def layout(self) -> StoreLayout:
        return self.means.trees.layout

    async def _told(self, _: StoreLayout) -> Events:
        while True:
            yield await self.events.get()
            self.events.task_done()

    async def _swept(self) -> Events:
        async for paths in self._told(self.layout):
            yield paths

    async def tell(self, *paths: str) -> None:
        """Returns when the watch has reacted to a change of these paths, or has looked everywhere."""
        await self.events.put(paths)
        await self.events.join()

    async def fetched(self, handle: str) -> Record:
        record = (await self.resolver.fetch(Ask(handle))).record
        self.means.grace.release_all()
        return record

    def views(self, record: Record) -> list[bool]:
        return [
            os.path.exists(view)
            for view in (self.layout.handle_link(record.key), self.layout.tfhub_view(record.handle))
        ]


@asynccontextmanager
async def _house(tmp_path: Path) -> AsyncIterator[_House]:
    with adopt(str(tmp_path / "cache"), socket="/s") as hold, ThreadPoolExecutor(4) as threads:
        async with Session(NETWORK) as session, asyncio.TaskGroup() as group:
            source = HttpSource(session)
            means = means_of(hold.layout, source, threads, spawn=group.create_task)
            house = _House(means, Resolver(means, group.create_task))
            watching = group.create_task(house.watch.run())
            yield house
            watching.cancel()
            means.grace.release_all()
            means.verifier.close()


def _tree(house: _House, record: Record) -> str:
    return house.layout.tree(record.digest)


@pytest.mark.parametrize("told", [True, False])
async def test_a_module_whose_tree_is_gone_goes_too(tmp_path: Path, origin: Origin, told: bool) -> None:
    async with _house(tmp_path) as house:
        record = await house.fetched(origin.serve("/m/1", Answer(archive(MODULE))))
        shutil.rmtree(_tree(house, record))
        await house.tell(*[_tree(house, record)] * told)
        assert house.means.records.get(record.key) is None
        assert not os.path.lexists(house.layout.handle_link(record.key))
        assert os.listdir(house.layout.tfhub) == []
        assert house.means.trees.health.damaged == 1


@pytest.mark.parametrize("by_file", [False, True])
async def test_a_pinned_one_is_fetched_again_at_once(tmp_path: Path, origin: Origin, by_file: bool) -> None:
    async with _house(tmp_path) as house:
        record = await house.fetched(origin.serve("/m/1", Answer(archive(MODULE))))
        if by_file:
            house.means.evictor.pins.replace({record.key: ["a.toml"]})
        else:
            house.means.amend(record.key, lambda now: now and now.model_copy(update={"pinned": True}))
        shutil.rmtree(_tree(house, record))
        await house.tell(_tree(house, record))
        async with asyncio.timeout(20):
            while not all(house.views(record)) or house.resolver.fetches():
                await asyncio.sleep(0.01)
        assert len(origin.asked("/m/1")) == 2
        health = house.means.trees.health
        assert (health.damaged, health.repaired) == (1, 1)
        now = house.means.records.get(record.key)
        assert now is not None
        assert now.pinned is not by_file


def _remove(link: str) -> None:
    os.unlink(link)


def _mislead(link: str) -> None:
    os.unlink(link)
    os.symlink("../trees/" + "0" * 64, link)


@pytest.mark.parametrize("harm", [_remove, _mislead])
@pytest.mark.parametrize("told", [True, False])
async def test_a_view_that_is_gone_or_wrong_is_mended(
    tmp_path: Path, origin: Origin, harm: Callable[[str], None], told: bool
) -> None:
    async with _house(tmp_path) as house:
        record = await house.fetched(origin.serve("/m/1", Answer(archive(MODULE))))
        link = house.layout.handle_link(record.key)
        harm(link)
        await house.tell(*[link] * told)
        assert os.readlink(link) == "../trees/" + record.digest
        assert house.means.trees.health.damaged == 0


async def test_what_a_removed_record_named_goes_unless_another_names_it(tmp_path: Path, origin: Origin) -> None:
    async with _house(tmp_path) as house:
        one, other = [await house.fetched(origin.serve(f"/m/{n}", Answer(archive(MODULE)))) for n in (1, 2)]
        os.unlink(house.layout.record(one.key))
        await house.tell(house.layout.record(one.key))
        assert not os.path.lexists(house.layout.handle_link(one.key))
        assert all(house.views(other))
        assert house.means.orphans == set()
        os.unlink(house.layout.record(other.key))
        await house.tell()
        assert house.views(other) == [False, False]
        assert house.means.orphans == {other.digest}
        assert os.listdir(house.layout.tfhub) == []


async def test_what_is_in_order_is_left_alone(tmp_path: Path, origin: Origin) -> None:
    async with _house(tmp_path) as house:
        record = await house.fetched(origin.serve("/m/1", Answer(archive(MODULE))))
        evicted = await house.fetched(origin.serve("/m/2", Answer(archive({**MODULE, "a": b"a"}))))
        house.means.trees.evict(evicted.digest)
        house.means.records.remove(evicted.key)
        before = [os.lstat(path).st_ino for path in (_tree(house, record), house.layout.handle_link(record.key))]
        paths = [_tree(house, record), house.layout.handle_link(record.key), house.layout.record(record.key)]
        await house.tell(*paths, _tree(house, evicted), house.layout.record(evicted.key), "/elsewhere")
        await house.tell()
        after = [os.lstat(path).st_ino for path in (_tree(house, record), house.layout.handle_link(record.key))]
        assert after == before
        assert house.means.trees.health.damaged == 0
        assert house.means.orphans == set()


async def test_without_inotify_it_sweeps_and_says_so(tmp_path: Path, origin: Origin) -> None:
    async with _house(tmp_path) as house:
        record = await house.fetched(origin.serve("/m/1", Answer(archive(MODULE))))

        async def none_left(_: StoreLayout) -> Events:
            raise OSError("OS file watch limit reached")
            yield ()

        watch = Watch(house.means, house.resolver, house.warnings.append, none_left, house._swept, pause_seconds=0)
        shutil.rmtree(_tree(house, record))
        await house.events.put(())
        watching = asyncio.ensure_future(watch.run())
        await asyncio.sleep(0)
        await house.events.join()
        watching.cancel()
        assert watch.mode == "sweep"
        assert "max_user_watches" in house.warnings[0]
        assert house.means.records.get(record.key) is None

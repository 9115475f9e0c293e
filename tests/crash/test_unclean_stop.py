"""Kills at every writing call of the start after an unclean stop, again and again: no suspect is forgotten."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from hubd.fetching.verifier import Verifier
from hubd.store.adoption import adopt
from hubd.store.disk import Disk
from hubd.store.layout import StoreLayout
from hubd.store.records import Records
from hubd.store.recovery import clear, mend, mend_views
from hubd.store.suspects import withdraw_suspects
from hubd.store.trees import Trees
from tests.support.journal import killed
from tests.support.modules import FILES, change_silently, digest_of, publish, record_of

_OTHER_FILES = {"saved_model.pb": b"other"}
_HARMED, _INTACT = digest_of(FILES), digest_of(_OTHER_FILES)
_UNTIL = 2_000_000_000.0


@pytest.fixture
def layout(directory: Path) -> StoreLayout:
    """A cache whose daemon was killed, after which one of its two modules is not what was published."""
    with adopt(str(directory / "cache"), socket="/s") as hold:
        trees, records = Trees(hold.layout), Records(hold.layout)
        for number, files in enumerate((FILES, _OTHER_FILES)):
            publish(trees, files)
            records.put(record_of(f"https://example.com/m/{number}", files), direct_until=_UNTIL)
        change_silently(Path(hold.layout.module(_HARMED)) / "saved_model.pb")
        return hold.layout


def _start(layout: StoreLayout, disk: Disk) -> None:
    """All that a start does to the cache, down to the moved clean point."""
    with adopt(layout.root, socket="/s", disk=disk) as hold:
        clear(layout, disk=disk)
        trees, records = Trees(layout, disk), Records(layout, disk)
        suspects = withdraw_suspects(hold, trees, records)
        mend(trees, records, lambda _: _UNTIL)

        async def check() -> None:
            async with asyncio.TaskGroup() as group:
                verifier = Verifier(trees, records, group.create_task)
                for digest in sorted(suspects):
                    await verifier.check(digest)
            verifier.close()

        asyncio.run(check())
        mend_views(records, set(suspects), lambda _: _UNTIL)
        hold.move_clean_point(hold.since)


def _assert_healed(layout: StoreLayout) -> None:
    trees = Trees(layout)
    assert trees.find(_HARMED) is None
    lease = trees.find(_INTACT)
    assert lease is not None
    lease.release()
    record = record_of("https://example.com/m/1", _OTHER_FILES)
    assert list(Records(layout).linked_keys()) == [record.key]
    assert os.listdir(layout.tfhub) == [os.path.basename(layout.tfhub_view(record.handle))]


def test_a_start_finds_what_the_stop_harmed(layout: StoreLayout) -> None:
    _start(layout, Disk())
    _assert_healed(layout)


def test_a_kill_at_any_call_of_the_start_forgets_no_suspect(layout: StoreLayout, directory: Path) -> None:
    shutil.copytree(layout.root, directory / "before", symlinks=True)
    fatal = 1
    while killed(fatal, lambda disk: _start(layout, disk)):
        _start(layout, Disk())
        _assert_healed(layout)
        shutil.rmtree(layout.root)
        shutil.copytree(directory / "before", layout.root, symlinks=True)
        fatal += 1
    assert fatal > 15


def test_nor_do_kills_at_every_call_one_after_the_other(layout: StoreLayout) -> None:
    fatal = 1
    while killed(fatal, lambda disk: _start(layout, disk)):
        lease = Trees(layout).find(_HARMED)
        if lease is not None:
            lease.release()
            assert fatal < 15, "it is served although a start came far"
        fatal += 1
    _assert_healed(layout)

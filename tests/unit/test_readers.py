"""Who may read a tree, by the records that name it: decided, and done to the tree with each record that changes."""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hubd.fetching.chores import Chores
from hubd.network.session import Session
from hubd.network.sources import HttpSource
from hubd.store import acl
from hubd.store.adoption import adopt
from hubd.store.hold import CacheHold
from hubd.store.layout import StoreLayout
from hubd.store.readers import readers_of, record_key
from hubd.store.records import Record, Records
from hubd.store.recovery import mend
from hubd.store.trees import Trees
from tests.support.means import NETWORK, means_of
from tests.support.modules import FILES, digest_of, fill, publish, record_of
from tests.support.uids import BOB
from tests.support.waiting import wait_until

CAROL = 54303
HANDLE = "https://example.com/m/1"
DIGEST = digest_of(FILES)
PUBLIC = record_of("https://example.com/public/1")
FOR_EVER = float("inf")


@pytest.fixture
def layout(tmp_path: Path) -> Iterator[StoreLayout]:
    with adopt(str(tmp_path / "cache"), socket="/s") as hold:
        yield hold.layout


def own(records: Records, uid: int, seconds: float = 1000.0) -> Record:
    """What is recorded of a module for this user, who may have it for so long."""
    until = datetime.now(UTC) + timedelta(seconds=seconds)
    marks = {"reader": uid, "granted_until": until, "salt": records.salt()}
    return record_of(HANDLE).model_copy(update=marks)


def let_in(layout: StoreLayout) -> frozenset[int] | None:
    return acl.readers_of(layout.tree(DIGEST))


def test_a_private_tree_is_closed_from_its_first_moment(layout: StoreLayout) -> None:
    trees = Trees(layout)
    staging = trees.stage()
    tree = staging.attempt_tree(1)
    trees.publish(tree, DIGEST, fill(tree), frozenset({BOB})).release()
    assert let_in(layout) == frozenset({BOB})
    with trees.find(DIGEST) or pytest.fail("not found"):
        assert stat.S_IMODE(os.lstat(layout.module(DIGEST)).st_mode) == 0o755


def test_a_tree_is_open_to_the_users_of_its_records_and_to_everyone_with_a_public_one(layout: StoreLayout) -> None:
    records = Records(layout)
    publish(Trees(layout))
    seen = []
    bobs, carols, expired = own(records, BOB), own(records, CAROL), own(records, 54309, seconds=-1.0)
    for record in (bobs, carols, expired, PUBLIC):
        records.put(record, direct_until=FOR_EVER)
        seen.append(let_in(layout))
    for record in (PUBLIC, bobs, carols):
        records.remove(record.key)
        seen.append(let_in(layout))
    assert seen == [{BOB}, {BOB, CAROL}, {BOB, CAROL}, None, {BOB, CAROL}, {CAROL}, frozenset()]
    now = time.time()
    assert readers_of(records.catalog.private(), now) == frozenset()
    assert readers_of(records.catalog.private(), now - 10.0) == frozenset({54309})


def test_a_record_that_moves_on_closes_the_tree_that_it_opened(layout: StoreLayout) -> None:
    records = Records(layout)
    publish(Trees(layout))
    records.put(own(records, BOB), direct_until=FOR_EVER)
    records.put(PUBLIC, direct_until=FOR_EVER)
    records.put(PUBLIC.model_copy(update={"digest": "0" * 64}), direct_until=FOR_EVER)
    assert let_in(layout) == frozenset({BOB})


def test_a_running_daemon_closes_a_tree_when_a_grant_expires(tmp_path: Path) -> None:
    async def expire(hold: CacheHold, threads: ThreadPoolExecutor) -> None:
        async with Session(NETWORK) as session:
            means = means_of(hold.layout, HttpSource(session), threads)
            publish(means.trees)
            for record in (own(means.records, BOB, seconds=0.5), own(means.records, CAROL)):
                means.records.put(record, direct_until=FOR_EVER)
            assert let_in(hold.layout) == frozenset({BOB, CAROL})
            closing = asyncio.create_task(Chores(means, hold, pytest.fail, is_busy=lambda: False).close())
            await asyncio.to_thread(wait_until, lambda: let_in(hold.layout) == frozenset({CAROL}))
            closing.cancel()

    with adopt(str(tmp_path / "cache"), socket="/s") as hold, ThreadPoolExecutor(4) as threads:
        asyncio.run(expire(hold, threads))


@pytest.mark.parametrize("public", [False, True])
def test_recovery_lets_in_whom_the_records_say(layout: StoreLayout, public: bool) -> None:
    before = Records(layout)
    publish(Trees(layout))
    for record in (own(before, BOB), own(before, CAROL), *([PUBLIC] if public else [])):
        before.put(record, direct_until=FOR_EVER)
    os.chmod(layout.tree(DIGEST), 0o700 if public else 0o755)
    report = mend(Trees(layout), Records(layout), lambda record: FOR_EVER)
    assert report.modules == (3 if public else 2)
    assert let_in(layout) == (None if public else frozenset({BOB, CAROL}))


def test_the_name_of_a_private_record_cannot_be_guessed(layout: StoreLayout) -> None:
    records = Records(layout)
    key = PUBLIC.key
    assert records.own_key(key, BOB) is None
    salt = records.salt()
    assert records.own_key(key, BOB) == record_key(key, BOB, salt) == Records(layout).own_key(key, BOB)
    assert len(salt) == 64
    assert os.lstat(layout.salt).st_mode & 0o077 == 0
    assert Records(layout).salt() == salt


def test_a_private_record_whose_salt_is_lost_is_none(layout: StoreLayout) -> None:
    records = Records(layout)
    bobs = own(records, BOB)
    publish(Trees(layout))
    records.put(bobs, direct_until=FOR_EVER)
    os.unlink(layout.salt)
    again = Records(layout)
    assert again.own_key(record_of(HANDLE).key, BOB) is None
    again.salt()
    key = again.own_key(record_of(HANDLE).key, BOB)
    assert key is not None
    assert again.get(key) is None

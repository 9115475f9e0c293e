"""Kills and power cuts while what is private is published, repaired, shared, closed: no moment opens it to others."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hubd.store import acl
from hubd.store.adoption import adopt
from hubd.store.disk import Disk
from hubd.store.layout import StoreLayout
from hubd.store.records import Record, Records
from hubd.store.recovery import clear, mend
from hubd.store.trees import Trees
from tests.support.journal import Call, RecordingDisk, killed, replay
from tests.support.modules import FILES, digest_of, fill, record_of
from tests.support.uids import ALICE, BOB

_HANDLE = "https://example.com/m/1"
_PUBLIC = record_of("https://example.com/public/1")
_DIGEST = digest_of(FILES)
_UNTIL = 2_000_000_000.0

Change = Callable[[StoreLayout, Disk], None]


def _private(records: Records, reader: int, days: int = 1000) -> Record:
    marks = {"reader": reader, "salt": records.salt(), "granted_until": datetime.now(UTC) + timedelta(days=days)}
    return record_of(_HANDLE).model_copy(update=marks)


def _loaded(layout: StoreLayout, disk: Disk) -> Records:
    records = Records(layout, disk)
    for key in list(records.keys()):
        records.load(key)
    return records


def _publish(layout: StoreLayout, disk: Disk) -> None:
    trees, records = Trees(layout, disk), _loaded(layout, disk)
    record = _private(records, BOB)
    staging = trees.stage()
    tree = staging.attempt_tree(1)
    with trees.publish(tree, _DIGEST, fill(tree, FILES, disk), frozenset({BOB})):
        records.put(record, direct_until=_UNTIL)
    staging.discard()


def _share(layout: StoreLayout, disk: Disk) -> None:
    records = _loaded(layout, disk)
    records.put(_private(records, ALICE), direct_until=_UNTIL)


def _withdraw(layout: StoreLayout, disk: Disk) -> None:
    records = _loaded(layout, disk)
    records.put(_private(records, BOB, days=-1), direct_until=0.0)


def _close(layout: StoreLayout, disk: Disk) -> None:
    _loaded(layout, disk).remove(_PUBLIC.key)


def _nothing(layout: StoreLayout) -> None:
    pass


def _bobs(layout: StoreLayout) -> None:
    _publish(layout, Disk())


def _damaged(layout: StoreLayout) -> None:
    _bobs(layout)
    os.unlink(f"{layout.module(_DIGEST)}/saved_model.pb")


def _everyones_too(layout: StoreLayout) -> None:
    _bobs(layout)
    _loaded(layout, Disk()).put(_PUBLIC, direct_until=_UNTIL)


SCENARIOS: dict[str, tuple[Callable[[StoreLayout], None], Change]] = {
    "publish": (_nothing, _publish),
    "repair": (_damaged, _publish),
    "share": (_bobs, _share),
    "withdraw": (_bobs, _withdraw),
    "close": (_everyones_too, _close),
}


def _require_closed(layout: StoreLayout, *, but_public: bool) -> None:
    """Whatever is there, before anything puts it right: nobody enters but the readers of its records."""
    if os.path.lexists(layout.tree(_DIGEST)):
        found = acl.readers_of(layout.tree(_DIGEST))
        assert found is not None or but_public
        assert (found or frozenset()) <= {ALICE, BOB}
    for name in os.listdir(layout.staging):
        assert os.lstat(f"{layout.staging}/{name}").st_mode & 0o077 == 0


def _require_recovered(layout: StoreLayout) -> None:
    """Who may enter is what the records say, and private ones have no views."""
    with adopt(layout.root, socket="/s"):
        clear(layout)
        trees, records = Trees(layout), Records(layout)
        mend(trees, records, lambda record: _UNTIL)
        names = {record.key for _, record in records.all() if record.reader is None}
        assert set(records.linked_keys()) == names
        assert len(os.listdir(layout.tfhub)) == len(names)
        for digest in trees.digests():
            assert acl.readers_of(layout.tree(digest)) == records.readers(digest)


@pytest.fixture(params=SCENARIOS)
def scenario(request: pytest.FixtureRequest, directory: Path) -> tuple[StoreLayout, Change, Callable[[], None]]:
    """A cache that is ready for the change, the change, and what brings the cache back to that."""
    prepare, change = SCENARIOS[request.param]
    with adopt(str(directory / "cache"), socket="/s") as hold:
        prepare(hold.layout)
    shutil.copytree(hold.layout.root, directory / "before", symlinks=True)

    def reset() -> None:
        shutil.rmtree(hold.layout.root)
        shutil.copytree(directory / "before", hold.layout.root, symlinks=True)

    return hold.layout, change, reset


def test_a_kill_at_any_call_opens_nothing(scenario: tuple[StoreLayout, Change, Callable[[], None]]) -> None:
    layout, change, reset = scenario
    but_public, fatal = change is _close, 1
    while killed(fatal, lambda disk: change(layout, disk)):
        _require_closed(layout, but_public=but_public)
        _require_recovered(layout)
        reset()
        fatal += 1
    assert fatal > 4
    _require_closed(layout, but_public=False)


@pytest.mark.parametrize("seed", range(3))
def test_a_power_cut_at_any_call_opens_nothing(
    scenario: tuple[StoreLayout, Change, Callable[[], None]], seed: int
) -> None:
    """Seed 0: nothing that was not fsynced survives; 1: all entries do, without their data; else a random part does."""
    layout, change, reset = scenario
    disk, chance = RecordingDisk(), random.Random(seed)
    change(layout, disk)

    def survives(call: Call) -> bool:
        return [False, call.kind == "entry", chance.random() < 0.5][min(seed, 2)]

    for cut in range(0, len(disk.calls) + 1, 1 if seed < 2 else 3):
        reset()
        replay(disk.calls[:cut], survives)
        _require_closed(layout, but_public=change is _close)
        _require_recovered(layout)

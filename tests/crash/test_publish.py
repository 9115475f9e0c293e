"""Kills and power cuts at every writing call of the store: what recovery finds is the old state or the new one.

Each scenario is a change that starts from an existing cache. Killed before its k-th call, for all k, or cut from
power there, the cache is recovered and compared with the states before and after the change.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from hubclient.contract.layout import digest_of_target
from hubd.store.adoption import adopt
from hubd.store.disk import Disk
from hubd.store.eviction import Evictor
from hubd.store.layout import StoreLayout, digest_of_tfhub_target
from hubd.store.partials import Partials
from hubd.store.records import Record, Records
from hubd.store.recovery import clear, mend
from hubd.store.trees import Trees
from tests.support.journal import Call, RecordingDisk, killed, replay
from tests.support.modules import FILES, digest_of, fill, record_of

_HANDLE = "https://example.com/m/1"
_NEW_FILES = {**FILES, "saved_model.pb": b"new", "assets/vocabulary.txt": b"words"}
_UNTIL = 2_000_000_000.0

#: What the records say: for each handle the content of its module.
State = dict[str, dict[str, bytes]]


def _publish(layout: StoreLayout, disk: Disk, files: Mapping[str, bytes], handle: str = _HANDLE) -> None:
    trees, records = Trees(layout, disk), Records(layout, disk)
    before = records.get(record_of(handle).key)
    staging = trees.stage()
    tree = staging.attempt_tree(1)
    with trees.publish(tree, digest_of(files), fill(tree, files, disk)):
        records.put(record_of(handle, files, handle, f"{handle}#{len(files)}"), direct_until=_UNTIL)
    staging.discard()
    if before is not None and before.digest != digest_of(files):
        trees.evict(before.digest)
        trees.empty_trash()


def _first(layout: StoreLayout, disk: Disk) -> None:
    _publish(layout, disk, FILES)


def _newer(layout: StoreLayout, disk: Disk) -> None:
    _publish(layout, disk, _NEW_FILES)


def _same_content_for_another_handle(layout: StoreLayout, disk: Disk) -> None:
    _publish(layout, disk, FILES, "https://example.com/other/1")


def _store(layout: StoreLayout, disk: Disk) -> tuple[Trees, Records, Evictor]:
    """As a daemon has it after its start."""
    trees, records = Trees(layout, disk), Records(layout, disk)
    for key in records.keys():  # noqa: SIM118 (not a dict's)
        records.load(key)
    return trees, records, Evictor(trees, records, Partials(layout, trees.ledger, 3600.0))


def _repacked(layout: StoreLayout, disk: Disk) -> None:
    """Equal content from an archive of other bytes, for the damaged tree's name."""
    trees, records = Trees(layout, disk), Records(layout, disk)
    staging = trees.stage()
    tree = staging.attempt_tree(1)
    manifest = fill(tree, FILES, disk).model_copy(update={"archive_bytes": 999})
    with trees.publish(tree, manifest.digest, manifest):
        records.put(record_of(_HANDLE).model_copy(update={"etag": '"other"'}), direct_until=_UNTIL)
    staging.discard()


def _evict(layout: StoreLayout, disk: Disk) -> None:
    trees, _, evictor = _store(layout, disk)
    evictor.make_room(lambda: int(os.path.lexists(trees.layout.tree(digest_of(FILES)))))


def _remove(layout: StoreLayout, disk: Disk) -> None:
    trees, records, evictor = _store(layout, disk)
    if records.get(record_of(_HANDLE).key) is not None:
        evictor.remove(record_of(_HANDLE).key, force=False)
    trees.empty_trash()


def _pin(layout: StoreLayout, disk: Disk) -> None:
    def pinned(now: Record | None) -> Record | None:
        return now.model_copy(update={"pinned": True}) if now is not None else None

    Records(layout, disk).amend(record_of(_HANDLE).key, pinned, lambda record: _UNTIL, is_use=False)


def _recovery(layout: StoreLayout, disk: Disk) -> None:
    clear(layout, disk=disk)
    mend(Trees(layout, disk), Records(layout, disk), lambda record: _UNTIL)


def _damage(layout: StoreLayout) -> None:
    os.unlink(f"{layout.module(digest_of(FILES))}/saved_model.pb")


Change = Callable[[StoreLayout, Disk], None]
Preparation = Callable[[StoreLayout], None]


def _nothing(layout: StoreLayout) -> None:
    pass


def _a_module(layout: StoreLayout) -> None:
    _first(layout, Disk())


def _a_damaged_module(layout: StoreLayout) -> None:
    _first(layout, Disk())
    _damage(layout)


def _a_shared_module(layout: StoreLayout) -> None:
    _first(layout, Disk())
    _same_content_for_another_handle(layout, Disk())


def _remains(layout: StoreLayout) -> None:
    """What several kills may leave: each kind of thing that recovery puts right."""
    _a_module(layout)
    _publish(layout, Disk(), {**FILES, "assets/a": b"a"}, "https://example.com/without-tree/1")
    Trees(layout).evict(digest_of({**FILES, "assets/a": b"a"}))
    trees = Trees(layout)
    staging = trees.stage()
    tree = staging.attempt_tree(1)
    trees.publish(tree, digest_of(_NEW_FILES), fill(tree, _NEW_FILES)).release()  # and no record
    os.unlink(layout.tfhub_view(_HANDLE))
    os.symlink("../trees/" + "0" * 64, layout.handle_link("0" * 64))


SCENARIOS: dict[str, tuple[Preparation, Change]] = {
    "first": (_nothing, _first),
    "newer": (_a_module, _newer),
    "same-again": (_a_module, _first),
    "shared": (_a_module, _same_content_for_another_handle),
    "repair": (_a_damaged_module, _first),
    "repair-repacked": (_a_damaged_module, _repacked),
    "evict": (_a_module, _evict),
    "evict-shared": (_a_shared_module, _evict),
    "remove": (_a_module, _remove),
    "remove-one-of-two": (_a_shared_module, _remove),
    "pin": (_a_module, _pin),
    "recovery": (_remains, _recovery),
}


@pytest.fixture(params=SCENARIOS)
def scenario(request: pytest.FixtureRequest, directory: Path) -> tuple[StoreLayout, Change, Path]:
    """A cache that is ready for the change, the change, and a copy of the cache to start from again."""
    prepare, change = SCENARIOS[request.param]
    with adopt(str(directory / "cache"), socket="/s") as hold:
        prepare(hold.layout)
    shutil.copytree(hold.layout.root, directory / "before", symlinks=True)
    return hold.layout, change, directory / "before"


def _reset(layout: StoreLayout, before: Path) -> None:
    shutil.rmtree(layout.root)
    shutil.copytree(before, layout.root, symlinks=True)


def _recover(layout: StoreLayout) -> State:
    """What the next daemon makes of it; every invariant of a recovered cache is checked on the way."""
    with adopt(layout.root, socket="/s"):
        clear(layout)
        trees, records = Trees(layout), Records(layout)
        mend(trees, records, lambda record: _UNTIL)
        assert os.listdir(layout.staging) == []
        assert os.listdir(layout.trash) == []
        state: State = {}
        links: set[tuple[str, str | None]] = set()
        views: set[tuple[str, str | None]] = set()
        for key, record in records.all():
            lease = trees.find(record.digest)
            if lease is None:
                state[record.handle] = {}  # damaged: a miss, and fetched again
            else:
                lease.release()
                module = Path(layout.module(record.digest))
                state[record.handle] = {
                    str(path.relative_to(module)): path.read_bytes() for path in module.rglob("*") if path.is_file()
                }
                assert trees.manifest(record.digest) is not None
                assert digest_of(state[record.handle]) == record.digest
            links.add((key, record.digest))
            views.update(
                (os.path.basename(layout.tfhub_view(spelling)), record.digest) for spelling in record.spellings
            )
        assert {key for key, _ in links} == set(records.keys())
        assert {(key, _target(layout.handle_link(key), digest_of_target)) for key in records.linked_keys()} == links
        assert {
            (name, _target(f"{layout.tfhub}/{name}", digest_of_tfhub_target)) for name in os.listdir(layout.tfhub)
        } == views
        assert set(trees.digests()) == {digest for _, digest in links}
        return state


def _target(link: str, digest_of_link: Callable[[str], str | None]) -> str | None:
    return digest_of_link(os.readlink(link))


def test_a_kill_at_any_call_leaves_the_old_state_or_the_new(scenario: tuple[StoreLayout, Change, Path]) -> None:
    layout, change, before = scenario
    old = _recover(layout)
    _reset(layout, before)
    change(layout, Disk())
    new = _recover(layout)
    fatal, seen = 1, []
    _reset(layout, before)
    while killed(fatal, lambda disk: change(layout, disk)):
        seen.append(_recover(layout))
        assert seen[-1] in (old, new), f"killed before call {fatal}"
        _reset(layout, before)
        fatal += 1
    assert fatal > 5
    assert seen[0] == old
    assert seen[-1] == new
    assert _recover(layout) == new


def test_the_next_fetch_after_a_kill_ends_as_if_nothing_had_been(scenario: tuple[StoreLayout, Change, Path]) -> None:
    layout, change, before = scenario
    change(layout, Disk())
    new = _recover(layout)
    fatal = 1
    _reset(layout, before)
    while killed(fatal, lambda disk: change(layout, disk)):
        clear(layout)
        change(layout, Disk())  # before recovery has mended anything
        assert _recover(layout) == new, f"killed before call {fatal}"
        _reset(layout, before)
        fatal += 4


@pytest.mark.parametrize("seed", range(4))
def test_a_power_cut_at_any_call_leaves_the_old_state_or_the_new(
    scenario: tuple[StoreLayout, Change, Path], seed: int
) -> None:
    """Seed 0: nothing that was not fsynced survives; 1: all entries do, without their data; else a random part does."""
    layout, change, before = scenario
    old = _recover(layout)
    _reset(layout, before)
    disk = RecordingDisk()
    change(layout, disk)
    new = _recover(layout)
    chance = random.Random(seed)

    def survives(call: Call) -> bool:
        return [False, call.kind == "entry", chance.random() < 0.5][min(seed, 2)]

    for cut in range(0, len(disk.calls) + 1, 1 if seed < 2 else 3):
        _reset(layout, before)
        replay(disk.calls[:cut], survives)
        assert _recover(layout) in (old, new), f"cut after call {cut}"


def test_a_kill_at_any_call_of_an_adoption_leaves_a_directory_that_can_be_adopted(directory: Path) -> None:
    root = directory / "cache"
    fatal = 1
    while killed(fatal, lambda disk: adopt(str(root), socket="/s", disk=disk).close()):
        with adopt(str(root), socket="/s") as hold:
            clear(hold.layout)
            assert not [name for name in os.listdir(root) if name.startswith(".")]
            assert {name: os.lstat(name).st_mode & 0o777 for name in hold.layout.directories} == hold.layout.directories
        shutil.rmtree(root)
        fatal += 1
    assert fatal > 20

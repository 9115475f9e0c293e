"""The soak sees what it looks for: each invariant is shown a cache that breaks it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

from hubclient.contract.lease import Lease
from hubd.store.adoption import adopt
from hubd.store.layout import StoreLayout, TreeLayout
from hubd.store.records import Records
from hubd.store.trees import Trees
from tests.soak import invariants, plan
from tests.soak.cleaner import Cleaner
from tests.soak.journal import Journal
from tests.soak.plan import CleanerAct, CleanerPlan
from tests.support.modules import FILES, digest_of, fill, record_of

_HANDLE = "https://example.com/m/1"
_DIGEST = digest_of(FILES)
_TRUTH: dict[str, dict[str, str]] = {}


@pytest.fixture
def layout(tmp_path: Path) -> StoreLayout:
    """A cache with one module."""
    with adopt(str(tmp_path / "cache"), socket=str(tmp_path / "socket")) as hold:
        layout = hold.layout
        trees, records = Trees(layout), Records(layout)
        staging = trees.stage()
        tree = staging.attempt_tree(1)
        manifest = fill(tree)
        _TRUTH[_DIGEST] = {path: entry.sha256 for path, entry in manifest.files.items()}
        with trees.publish(tree, _DIGEST, manifest):
            records.put(record_of(_HANDLE), direct_until=time.time() + 60)
        staging.discard()
        trees.empty_trash()
    return layout


def _wrong(layout: StoreLayout, journal: Journal | None = None) -> list[str]:
    return list(invariants.wrong_trees(layout, _TRUTH, (journal or Journal(0)).touched_tree))


def _all(layout: StoreLayout) -> list[object]:
    return [
        *_wrong(layout),
        *invariants.orphaned_trees(layout),
        *invariants.missing_trees(layout),
        *invariants.wrong_views(layout),
        *invariants.leftovers(layout),
    ]


def test_a_cache_as_the_store_leaves_it_breaks_nothing(layout: StoreLayout) -> None:
    assert _all(layout) == []


def _flip(layout: StoreLayout) -> None:
    """Another byte, with size and time as they were."""
    path = TreeLayout(layout.tree(_DIGEST)).file("saved_model.pb")
    status = os.stat(path)
    Path(path).write_bytes(b"\x08\x02")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _add(layout: StoreLayout) -> None:
    Path(TreeLayout(layout.tree(_DIGEST)).file("more")).touch()


def _forget(layout: StoreLayout) -> None:
    os.unlink(layout.record(record_of(_HANDLE).key))


def _take(layout: StoreLayout) -> None:
    os.rename(layout.tree(_DIGEST), layout.new_trash())


def _leave(layout: StoreLayout) -> None:
    os.mkdir(layout.new_staging())


@pytest.mark.parametrize("break_it", [_flip, _add, _forget, _take, _leave])
def test_each_is_seen(layout: StoreLayout, break_it: Callable[[StoreLayout], None]) -> None:
    break_it(layout)
    assert _all(layout) != []


def test_a_tree_without_a_record_is_no_orphan_while_somebody_holds_it(layout: StoreLayout) -> None:
    _forget(layout)
    with Lease.share(layout.lease(_DIGEST)):
        assert invariants.orphaned_trees(layout) == []
    assert invariants.orphaned_trees(layout) == [_DIGEST]


def test_a_partial_download_that_can_go_on_is_no_leftover(layout: StoreLayout) -> None:
    partial = Path(layout.new_staging())
    partial.mkdir()
    (partial / "transfer.json").touch()
    assert invariants.leftovers(layout) == []
    (partial / "tree-1").mkdir()
    assert invariants.leftovers(layout) == [f"staging/{partial.name}"]


def test_use_counts_each_inode_once(layout: StoreLayout) -> None:
    tree = TreeLayout(layout.tree(_DIGEST))
    before = invariants.used(layout).entries_bytes
    os.link(tree.manifest, tree.file("again"))
    assert invariants.used(layout).entries_bytes == before
    Path(tree.file("new")).write_bytes(bytes(100_000))
    assert invariants.used(layout).entries_bytes >= before + 100_000


@pytest.mark.parametrize("act", ["delete file", "truncate file", "delete tree"])
def test_what_the_cleaner_did_to_a_tree_is_excused_and_nothing_else(layout: StoreLayout, act: CleanerAct) -> None:
    journal = Journal(0)
    began = time.time()
    Cleaner(layout, journal, frozenset()).act(CleanerPlan(act, 0.0, 0.3, 0.0))
    assert _all(layout) != []
    assert _wrong(layout, journal) == []
    assert journal.touched(_DIGEST, since=began)
    assert not journal.touched(_DIGEST, since=time.time() + 1)
    assert not journal.touched("0" * 64, since=began)


@pytest.mark.parametrize("act", ["delete record", "truncate record"])
def test_the_cleaner_spares_what_is_pinned(layout: StoreLayout, act: CleanerAct) -> None:
    key = record_of(_HANDLE).key
    Cleaner(layout, Journal(0), frozenset({key})).act(CleanerPlan(act, 0.0, 0.0, 0.0))
    assert invariants.recorded(layout) == {key: _DIGEST}
    Cleaner(layout, Journal(0), frozenset()).act(CleanerPlan(act, 0.0, 0.0, 0.0))
    assert invariants.recorded(layout) == {}


def _first_plans(seed: int) -> list[object]:
    endless = (
        plan.clients(seed, 0, ["a", "b"]),
        plan.cleaner(seed),
        plan.prefetches(seed, list("abcdef")),
        plan.administrator(seed),
        plan.changes(seed, ["a", "b"]),
        plan.cycles(seed),
    )
    return [list(islice(plans, 20)) for plans in endless]


def test_one_seed_gives_the_same_plans_again() -> None:
    assert _first_plans(7) == _first_plans(7)
    assert all(one != other for one, other in zip(_first_plans(7), _first_plans(8), strict=True))

"""A tree that no handle names any more goes when nobody holds it, and not before."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from hubclient.contract.lease import Lease
from hubd.store.adoption import adopt
from hubd.store.cleaning import clean
from hubd.store.layout import StoreLayout
from hubd.store.records import Records
from hubd.store.trees import Trees
from tests.support.modules import FILES, digest_of, fill, record_of

_HANDLE = "https://example.org/m"
_NEWER: Mapping[str, bytes] = {"saved_model.pb": b"newer"}


@pytest.fixture
def layout(tmp_path: Path) -> StoreLayout:
    with adopt(str(tmp_path / "cache"), socket="/none") as hold:
        return hold.layout


def publish(trees: Trees, files: Mapping[str, bytes]) -> Lease:
    tree = trees.stage().attempt_tree(1)
    manifest = fill(tree, files)
    return trees.publish(tree, manifest.digest, manifest)


def test_a_tree_that_its_handle_moved_on_from_goes_when_nobody_holds_it(layout: StoreLayout) -> None:
    trees, records = Trees(layout), Records(layout)
    held = publish(trees, FILES)
    publish(trees, _NEWER).release()
    records.put(record_of(_HANDLE, _NEWER), direct_until=0)
    orphans = {digest_of(FILES)}
    clean(trees, records, orphans)
    assert orphans == {digest_of(FILES)}, "it is tried again"
    assert os.path.isdir(layout.module(digest_of(FILES)))
    held.release()
    clean(trees, records, orphans)
    assert orphans == set()
    assert sorted(os.listdir(layout.trees)) == [digest_of(_NEWER)]
    assert os.listdir(layout.trash) == []


def test_a_tree_that_another_handle_names_stays(layout: StoreLayout) -> None:
    trees, records = Trees(layout), Records(layout)
    publish(trees, FILES).release()
    records.put(record_of("https://example.org/other"), direct_until=0)
    orphans = {digest_of(FILES)}
    clean(trees, records, orphans)
    assert orphans == set()
    assert os.path.isdir(layout.module(digest_of(FILES)))


def test_the_trash_is_emptied(layout: StoreLayout) -> None:
    trees = Trees(layout)
    os.makedirs(f"{layout.new_trash()}/module/deep")
    clean(trees, Records(layout), set())
    assert os.listdir(layout.trash) == []

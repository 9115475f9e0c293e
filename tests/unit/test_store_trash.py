"""The trash: what goes there is accounted for until it is deleted, and what cannot go there stays where it was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hubclient.contract.errors import Internal
from hubd.store.adoption import adopt
from hubd.store.disk import Disk
from hubd.store.layout import StoreLayout
from hubd.store.trees import Trees
from tests.support.modules import FILES, digest_of, fill

_DIGEST = digest_of(FILES)


@pytest.fixture
def layout(tmp_path: Path) -> StoreLayout:
    with adopt(str(tmp_path / "cache"), socket="/s") as hold:
        return hold.layout


def _publish(trees: Trees) -> None:
    staging = trees.stage()
    tree = staging.attempt_tree(1)
    trees.publish(tree, _DIGEST, fill(tree)).release()
    staging.discard()


class _Emptied(Disk):
    """The trash is emptied right after each rename into it, as by another thread."""

    trees: Trees

    def rename(self, source: str, target: str) -> None:
        super().rename(source, target)
        if target.startswith(self.trees.layout.trash):
            self.trees.empty_trash()


def test_what_is_deleted_as_soon_as_it_comes_is_not_accounted_for_for_ever(layout: StoreLayout) -> None:
    disk = _Emptied()
    disk.trees = trees = Trees(layout, disk)
    _publish(trees)
    os.unlink(layout.listing(_DIGEST))
    _publish(trees)  # a repair: the damaged tree goes
    trees.evict(_DIGEST)
    assert (trees.ledger.used_bytes, os.listdir(layout.trash)) == (0, [])


def test_without_a_trash_nothing_is_taken_for_removed(layout: StoreLayout) -> None:
    trees = Trees(layout)
    _publish(trees)
    trees.empty_trash()
    os.rmdir(layout.trash)
    used_bytes = trees.ledger.used_bytes
    with pytest.raises(Internal, match=layout.trash):
        trees.evict(_DIGEST)
    assert trees.ledger.used_bytes == used_bytes > 0
    staging = trees.stage()
    Path(staging.archive).write_bytes(b"x" * 10_000)
    trees.ledger.reserve(staging.path, 10_000)
    staging.discard()
    assert trees.ledger.used_bytes == used_bytes + 10_000
    os.mkdir(layout.trash, 0o700)
    staging.discard()
    assert trees.evict(_DIGEST) == used_bytes
    trees.empty_trash()
    assert trees.ledger.used_bytes == 0

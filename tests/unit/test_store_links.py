"""A link in the place of a tree: what it leads to is neither served nor touched, and the tree comes back."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from hubclient.contract.lease import Lease
from hubd.store.adoption import adopt
from hubd.store.trees import Trees
from tests.support.modules import FILES, digest_of, fill

_DIGEST = digest_of(FILES)


def _publish(trees: Trees) -> None:
    staging = trees.stage()
    tree = staging.attempt_tree(1)
    trees.publish(tree, _DIGEST, fill(tree)).release()
    staging.discard()


def test_a_tree_that_was_moved_elsewhere_behind_a_link_is_none(tmp_path: Path) -> None:
    with adopt(str(tmp_path / "cache"), socket="/s") as hold:
        layout, trees = hold.layout, Trees(hold.layout)
    elsewhere = tmp_path / "elsewhere"
    _publish(trees)
    for put_right in (_publish, lambda trees: trees.evict(_DIGEST)):
        shutil.copytree(layout.tree(_DIGEST), elsewhere, copy_function=shutil.copy2, dirs_exist_ok=True)
        shutil.rmtree(layout.tree(_DIGEST))
        os.symlink(elsewhere, layout.tree(_DIGEST))
        with Lease.share(str(elsewhere / "lease")):
            assert trees.find(_DIGEST) is None
            put_right(trees)
        trees.empty_trash()
        assert not os.path.islink(layout.tree(_DIGEST))
        assert sorted(os.listdir(elsewhere)) == ["files", "lease", "manifest.json", "module"]
    assert trees.ledger.used_bytes == 0

"""The quick check: right whatever it remembers, and it does not remember without bound."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hubclient.contract import listing
from hubclient.contract.lease import Lease
from hubd.store.layout import TreeLayout
from hubd.store.verification import QuickCheck


def _tree(path: Path, names: list[str]) -> TreeLayout:
    tree = TreeLayout(str(path))
    os.makedirs(tree.module)
    for name in names:
        Path(tree.file(name)).write_bytes(name.encode())
    statuses = {name: os.lstat(tree.file(name)) for name in names}
    Path(tree.listing).write_bytes(
        listing.dump(listing.Entry(status.st_size, status.st_mtime_ns, name) for name, status in statuses.items())
    )
    Path(tree.lease).touch()
    return tree


@pytest.mark.parametrize("max_entries", [0, 7, 1000])
def test_the_check_is_right_however_little_it_remembers(tmp_path: Path, max_entries: int) -> None:
    check = QuickCheck(max_entries)
    trees = [_tree(tmp_path / str(number), ["a", "b", "c"]) for number in range(5)]
    for _ in range(2):
        for tree in trees:
            with Lease.share(tree.lease) as lease:
                assert check.difference(tree, lease) is None
        assert check.remembered_entries <= max_entries
    os.unlink(trees[3].file("b"))
    with Lease.share(trees[3].lease) as lease:
        assert check.difference(trees[3], lease) == "b"


def test_a_listing_that_cannot_be_read_is_the_difference(tmp_path: Path) -> None:
    tree = _tree(tmp_path / "tree", ["a"])
    with Lease.share(tree.lease) as lease:
        data = Path(tree.listing).read_bytes()
        for spoilt in (b"", data[:-1], b"\xff\n", b"1 a\n"):
            Path(tree.listing).write_bytes(spoilt)
            assert QuickCheck().difference(tree, lease) == "files"
        os.unlink(tree.listing)
        assert QuickCheck().difference(tree, lease) == "files"
        (tmp_path / "elsewhere").write_bytes(data)
        os.symlink(tmp_path / "elsewhere", tree.listing)
        assert QuickCheck().difference(tree, lease) == "files"
        os.unlink(tree.listing)
        os.mkfifo(tree.listing)
        assert QuickCheck().difference(tree, lease) == "files"

"""The layout that readers of the cache rely on, and the listing of a tree."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubclient.contract import layout, listing
from hubclient.contract.layout import CacheLayout

_DIGEST = "0123456789abcdef" * 4
_NAME = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1)
_ENTRY = st.builds(listing.Entry, st.integers(0, 1 << 62), st.integers(0, 1 << 62), _NAME)


def test_the_paths_of_layout_version_1() -> None:
    cache = CacheLayout("/c")
    assert layout.LAYOUT_VERSION == 1
    assert cache.version_file == "/c/layout"
    assert cache.daemon_lock == "/c/daemon.lock"
    assert cache.handle_link("k") == "/c/handles/k"
    assert cache.tree(_DIGEST) == f"/c/trees/{_DIGEST}"
    assert cache.module(_DIGEST) == f"/c/trees/{_DIGEST}/module"
    assert cache.lease(_DIGEST) == f"/c/trees/{_DIGEST}/lease"
    assert cache.listing(_DIGEST) == f"/c/trees/{_DIGEST}/files"
    assert cache.tfhub == "/c/tfhub"


def test_a_link_names_its_digest() -> None:
    assert layout.digest_of_target(layout.target_of_digest(_DIGEST)) == _DIGEST


@pytest.mark.parametrize(
    "target",
    [
        "",
        _DIGEST,
        f"../trees/{_DIGEST[:-1]}",
        f"../trees/{_DIGEST}/module",
        f"../trees/{_DIGEST.upper()}",
        f"/c/trees/{_DIGEST}",
        f"../../trees/{_DIGEST}",
        "../trees/" + "../" * 20 + "etc1",
    ],
)
def test_a_link_to_anywhere_else_names_none(target: str) -> None:
    assert layout.digest_of_target(target) is None


@given(st.lists(_ENTRY, unique_by=lambda entry: entry.path))
def test_a_listing_reads_back_as_it_was_written(entries: list[listing.Entry]) -> None:
    data = listing.dump(entries)
    assert sorted(listing.parse(data) if entries else []) == sorted(entries)


def test_a_listing_begins_with_the_graph_and_then_the_largest() -> None:
    entries = [listing.Entry(3, 0, "b"), listing.Entry(9, 0, "a"), listing.Entry(1, 0, "saved_model.pb")]
    assert [entry.path for entry in listing.parse(listing.dump(entries))] == ["saved_model.pb", "a", "b"]


@pytest.mark.parametrize("data", [b"", b"1 2 a", b"1 2\n", b"x 2 a\n", b"\n", b"1 2 \xff\n"])
def test_a_damaged_listing_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"cut|unpack|invalid literal|decode"):
        listing.parse(data)


def test_the_first_difference_is_found(tmp_path: Path) -> None:
    for name in ("same", "longer", "touched", "gone"):
        (tmp_path / name).write_bytes(b"x")
    statuses = {path.name: path.stat() for path in tmp_path.iterdir()}
    entries = [listing.Entry(status.st_size, status.st_mtime_ns, name) for name, status in statuses.items()]
    assert listing.first_difference(str(tmp_path), entries) is None
    (tmp_path / "longer").write_bytes(b"xx")
    os.utime(tmp_path / "longer", ns=(0, statuses["longer"].st_mtime_ns))
    os.utime(tmp_path / "touched", ns=(0, 1))
    (tmp_path / "gone").unlink()
    assert [listing.first_difference(str(tmp_path), [entry]) for entry in entries] == [
        None if entry.path == "same" else entry.path for entry in entries
    ]

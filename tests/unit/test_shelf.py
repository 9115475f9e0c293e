"""Where packed archives are kept."""

from __future__ import annotations

import os
import time
from pathlib import Path

from hubd.publishing.shelf import Archive, Shelf

ONE, TWO = "1" * 64, "2" * 64
DIGEST = "d" * 64
OLD = time.time() - 8 * 86400


def shelf_at(root: Path) -> Shelf:
    shelf = Shelf(str(root / "shelf"))
    shelf.prepare()
    return shelf


def put(shelf: Shelf, stamp: str, digest: str = DIGEST) -> Archive:
    Path(staged := shelf.staged()).write_bytes(b"archive")
    return shelf.put(stamp, staged, digest)


def test_an_archive_is_found_by_the_files_that_it_was_packed_of(tmp_path: Path) -> None:
    shelf = shelf_at(tmp_path)
    assert (shelf.archive(ONE), shelf.digest(ONE)) == (None, None)
    made = put(shelf, ONE)
    assert (made.digest, made.size_bytes, Path(made.path).read_bytes()) == (DIGEST, 7, b"archive")
    assert shelf_at(tmp_path).archive(ONE) == made
    assert put(shelf, TWO) == made, "equal archives are kept once"
    os.unlink(made.path)
    assert (shelf.archive(ONE), shelf.digest(ONE)) == (None, DIGEST)


def test_what_somebody_else_put_there_is_no_digest(tmp_path: Path) -> None:
    shelf = shelf_at(tmp_path)
    os.symlink("../../../etc/passwd", f"{shelf.root}/versions/{ONE}")
    assert (shelf.archive(ONE), shelf.digest(ONE)) == (None, None)


def test_what_no_version_has_needed_for_a_week_goes(tmp_path: Path) -> None:
    shelf = shelf_at(tmp_path)
    kept, unneeded = put(shelf, ONE, DIGEST), put(shelf, TWO, "e" * 64)
    shelf.note("3" * 64, "f" * 64)
    assert shelf.clean({ONE}) == []
    for stamp in (ONE, TWO):
        os.utime(f"{shelf.root}/versions/{stamp}", (OLD, OLD), follow_symlinks=False)
    assert shelf.clean({ONE}) == ["e" * 64]
    assert (shelf.archive(ONE), shelf.archive(TWO)) == (kept, None)
    assert not os.path.exists(unneeded.path)
    assert shelf.digest("3" * 64) == "f" * 64


def test_what_was_left_unfinished_goes_at_the_next_start(tmp_path: Path) -> None:
    shelf = shelf_at(tmp_path)
    old, new = Path(shelf.staged()), Path(shelf.staged())
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (OLD, OLD))
    shelf.prepare()
    assert (old.exists(), new.exists()) == (False, True)

"""Recovery: records decide; what has none goes, unless it is held or was published since."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from hubclient.contract.errors import Internal
from hubclient.contract.lease import Lease
from hubd.store.adoption import adopt
from hubd.store.disk import Disk
from hubd.store.layout import StoreLayout
from hubd.store.ledger import disk_bytes
from hubd.store.records import Record, Records
from hubd.store.recovery import RecoveryReport, clear, mend
from hubd.store.trees import Trees
from tests.support.modules import FILES, digest_of, fill, record_of

_HANDLE = "https://example.com/m/1"
_RECORD = record_of(_HANDLE)
_OTHER_FILES = {"saved_model.pb": b"other"}
_UNTIL = 2_000_000_000.0


@pytest.fixture
def layout(tmp_path: Path) -> StoreLayout:
    with adopt(str(tmp_path / "cache"), socket="/s") as hold:
        return hold.layout


def _publish(trees: Trees, files: Mapping[str, bytes] = FILES) -> Lease:
    staging = trees.stage()
    tree = staging.attempt_tree(1)
    lease = trees.publish(tree, digest_of(files), fill(tree, files))
    staging.discard()
    return lease


def _put(layout: StoreLayout, record: Record = _RECORD, files: Mapping[str, bytes] = FILES) -> None:
    with _publish(Trees(layout), files):
        Records(layout).put(record, direct_until=_UNTIL)


def _restart(layout: StoreLayout) -> RecoveryReport:
    clear(layout)
    report = mend(Trees(layout), Records(layout), lambda record: _UNTIL)
    assert os.listdir(layout.staging) == []
    assert os.listdir(layout.trash) == []
    return report


def _changes(report: RecoveryReport) -> dict[str, object]:
    return {name: what for name, what in asdict(report).items() if what and name not in ("modules", "size_bytes")}


def test_a_cache_in_order_stays_as_it_is(layout: StoreLayout) -> None:
    _put(layout)
    _put(layout, record_of("https://example.com/other"))
    before = {
        path: os.lstat(path).st_mtime_ns for path in (layout.handle_link(_RECORD.key), layout.tfhub_view(_HANDLE))
    }
    report = _restart(layout)
    assert _changes(report) == {}
    assert (report.modules, report.size_bytes) == (2, _RECORD.size_bytes)  # one tree that two records name
    assert str(report) == f"modules: 2, {_RECORD.size_bytes} bytes, nothing to mend"
    assert str(replace(report, trees_removed=3)) == f"modules: 2, {_RECORD.size_bytes} bytes, 3 trees removed"
    assert {path: os.lstat(path).st_mtime_ns for path in before} == before


def test_clearing_empties_staging_by_renames_alone(layout: StoreLayout) -> None:
    staging = Trees(layout).stage()
    fill(staging.attempt_tree(1))
    os.symlink("nowhere", layout.new_staging())
    Path(layout.new_staging()).touch()
    clear(layout)
    assert os.listdir(layout.staging) == []
    assert len(os.listdir(layout.trash)) == 3
    assert _changes(_restart(layout)) == {}


def test_views_are_mended(layout: StoreLayout) -> None:
    _put(layout)
    os.unlink(layout.handle_link(_RECORD.key))
    os.unlink(layout.tfhub_view(_HANDLE))
    assert _changes(_restart(layout)) == {"records_mended": 1}
    assert os.path.samefile(layout.tfhub_view(_HANDLE), layout.module(_RECORD.digest))
    assert os.lstat(layout.handle_link(_RECORD.key)).st_mtime == _UNTIL


def test_a_tree_without_a_record_goes(layout: StoreLayout) -> None:
    _put(layout)
    _publish(Trees(layout), _OTHER_FILES).release()
    assert _changes(_restart(layout)) == {"trees_removed": 1}
    assert os.listdir(layout.trees) == [_RECORD.digest]


def test_a_tree_without_a_record_stays_while_it_is_held(layout: StoreLayout) -> None:
    with _publish(Trees(layout)):
        assert _changes(_restart(layout)) == {"trees_in_use": {digest_of(FILES)}}
        assert os.path.isdir(layout.module(_RECORD.digest))
    assert _changes(_restart(layout)) == {"trees_removed": 1}


def test_a_tree_that_is_published_meanwhile_is_never_taken(layout: StoreLayout) -> None:
    """It was there without a record at start-up, and is published, recorded and released while recovery runs."""
    _put(layout, record_of("https://example.com/other", _OTHER_FILES), _OTHER_FILES)
    _publish(Trees(layout)).release()
    trees, records = Trees(layout), Records(layout)

    def serve(record: Record) -> float:
        with _publish(trees):
            records.put(_RECORD, direct_until=_UNTIL)
        return _UNTIL

    assert _changes(mend(trees, records, serve)) == {}
    assert records.get(_RECORD.key) == _RECORD
    assert os.path.samefile(layout.tfhub_view(_HANDLE), layout.module(_RECORD.digest))


def test_a_view_that_is_renewed_meanwhile_is_never_taken(layout: StoreLayout) -> None:
    _put(layout, record_of("https://example.com/other", _OTHER_FILES), _OTHER_FILES)
    os.symlink(f"../trees/{_RECORD.digest}/module", layout.tfhub_view(_HANDLE))
    trees, records = Trees(layout), Records(layout)

    def serve(record: Record) -> float:
        os.unlink(layout.tfhub_view(_HANDLE))
        with _publish(trees):
            records.put(_RECORD, direct_until=_UNTIL)
        return _UNTIL

    assert _changes(mend(trees, records, serve)) == {}
    assert os.path.samefile(layout.tfhub_view(_HANDLE), layout.module(_RECORD.digest))


def test_an_eviction_that_was_cut_short_is_finished(layout: StoreLayout) -> None:
    _put(layout)
    Trees(layout).evict(_RECORD.digest)
    assert _changes(_restart(layout)) == {"records_removed": 1}
    assert [os.listdir(path) for path in (layout.handles, layout.tfhub, layout.trees)] == [[], [], []]


def test_a_pinned_record_outlives_its_tree(layout: StoreLayout) -> None:
    pinned = _RECORD.model_copy(update={"pinned": True})
    _put(layout, pinned)
    Trees(layout).evict(_RECORD.digest)
    assert _changes(_restart(layout)) == {"views_removed": 1}
    assert os.listdir(layout.tfhub) == []  # tensorflow_hub does not know what to do with a dangling link
    assert Records(layout).get(pinned.key) == pinned


def test_a_damaged_record_goes_with_its_views_and_its_tree(layout: StoreLayout) -> None:
    _put(layout)
    Path(layout.record(_RECORD.key)).write_bytes(b"{")
    assert _changes(_restart(layout)) == {"records_removed": 1, "views_removed": 1, "trees_removed": 1}
    assert [os.listdir(path) for path in (layout.handles, layout.tfhub, layout.trees)] == [[], [], []]


def test_views_without_a_record_go(layout: StoreLayout) -> None:
    _put(layout)
    os.symlink(f"../trees/{_RECORD.digest}", layout.handle_link("0" * 64))
    os.symlink(f"../trees/{_RECORD.digest}/module", layout.tfhub_view("https://example.com/forgotten"))
    assert _changes(_restart(layout)) == {"views_removed": 2}
    assert os.path.lexists(layout.tfhub_view(_HANDLE))


def test_what_is_not_hubd_s_stays(layout: StoreLayout) -> None:
    _put(layout)
    theirs = [f"{layout.tfhub}/{'0' * 40}", f"{layout.trees}/other", f"{layout.root}/{'1' * 40}"]
    for path in theirs:
        os.mkdir(path)
    os.symlink("/elsewhere", f"{layout.tfhub}/link")
    assert _changes(_restart(layout)) == {}
    assert all(map(os.path.isdir, theirs))
    assert os.path.islink(f"{layout.tfhub}/link")


def test_what_cannot_be_put_right_keeps_nothing_else_from_it(layout: StoreLayout) -> None:
    """A full disk for the views of one module, and directories that somebody made in the places of others."""
    first, last = sorted((_RECORD, record_of("https://example.com/other")), key=lambda record: record.key)
    for record in (first, last):
        _put(layout, record)
        os.unlink(layout.handle_link(record.key))
    for key in ("0" * 64, "f" * 64):
        os.mkdir(layout.record(key))
        os.mkdir(layout.handle_link(key))

    class Full(Disk):
        def symlink(self, target: str, path: str) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    trees, records = Trees(layout), Records(layout, Full())
    report = mend(trees, records, lambda record: _UNTIL)
    assert (report.modules, report.records_mended, report.failures > 0) == (2, 0, True)
    assert "failed" in report.first_failure or "full" in report.first_failure
    assert {entry.key for entry in records.catalog.of_digest(_RECORD.digest)} == {first.key, last.key}
    assert trees.ledger.used_bytes == disk_bytes(layout.tree(_RECORD.digest))
    again = mend(Trees(layout), Records(layout), lambda record: _UNTIL)
    assert again.records_mended == 2
    assert os.path.isdir(layout.record("0" * 64))


def test_while_a_record_cannot_be_read_no_tree_goes_for_having_none(layout: StoreLayout) -> None:
    _put(layout)
    _publish(Trees(layout), _OTHER_FILES).release()

    class Unreadable(Records):
        def load(self, key: str) -> Record | None:
            raise Internal("reading a record failed: Input/output error")

    report = mend(Trees(layout), Unreadable(layout), lambda record: _UNTIL)
    assert (report.failures, report.trees_removed, report.views_removed) == (1, 0, 0)
    assert sorted(os.listdir(layout.trees)) == sorted({_RECORD.digest, digest_of(_OTHER_FILES)})
    assert os.path.lexists(layout.handle_link(_RECORD.key))
    assert os.path.lexists(layout.tfhub_view(_HANDLE))

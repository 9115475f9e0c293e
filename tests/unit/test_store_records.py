"""Records and their views: the record is the truth, the views repeat it, and what is not hubd's stays."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from hubclient.contract import handles
from hubclient.contract.errors import Internal
from hubd.store.adoption import adopt
from hubd.store.layout import StoreLayout
from hubd.store.records import MAX_SPELLINGS, Record, Records
from tests.support.modules import FILES, record_of

_HANDLE = "https://example.com/m/1"
_RECORD = record_of(_HANDLE, FILES, _HANDLE, "https://EXAMPLE.com/m/1")
_UNTIL = 2_000_000_000.0


@pytest.fixture
def layout(tmp_path: Path) -> StoreLayout:
    with adopt(str(tmp_path / "cache"), socket="/s") as hold:
        os.makedirs(hold.layout.module(_RECORD.digest))
        Path(hold.layout.listing(_RECORD.digest)).touch()
        return hold.layout


@pytest.fixture
def records(layout: StoreLayout) -> Records:
    return Records(layout)


def _views(layout: StoreLayout) -> dict[str, str]:
    return {
        entry.path: os.readlink(entry.path)
        for directory in (layout.handles, layout.tfhub)
        for entry in os.scandir(directory)
        if entry.is_symlink()
    }


def _views_of(layout: StoreLayout, record: Record) -> dict[str, str]:
    return {
        layout.handle_link(record.key): f"../trees/{record.digest}",
        **{layout.tfhub_view(spelling): f"../trees/{record.digest}/module" for spelling in record.spellings},
    }


def test_a_record_reads_back_and_its_views_say_the_same(records: Records, layout: StoreLayout) -> None:
    assert records.get(_RECORD.key) is None
    records.put(_RECORD, direct_until=_UNTIL)
    assert records.get(_RECORD.key) == _RECORD
    assert _views(layout) == _views_of(layout, _RECORD)
    assert os.lstat(layout.handle_link(_RECORD.key)).st_mtime == _UNTIL
    assert os.path.samefile(layout.tfhub_view(_HANDLE), layout.module(_RECORD.digest))
    assert os.listdir(layout.staging) == []
    assert list(records.all()) == [(_RECORD.key, _RECORD)]


def test_a_view_can_be_direct_for_ever(records: Records, layout: StoreLayout) -> None:
    records.put(_RECORD, direct_until=float("inf"))
    assert os.lstat(layout.handle_link(_RECORD.key)).st_mtime > _UNTIL
    assert not records.mend_views(_RECORD, direct_until=float("inf"))


def test_a_newer_record_takes_the_place_of_the_older_and_of_its_views(records: Records, layout: StoreLayout) -> None:
    records.put(_RECORD, direct_until=_UNTIL)
    newer = record_of(_HANDLE, {"saved_model.pb": b"new"}, _HANDLE)
    records.put(newer, direct_until=_UNTIL + 1)
    assert records.get(newer.key) == newer
    assert _views(layout) == _views_of(layout, newer)
    assert os.lstat(layout.handle_link(newer.key)).st_mtime == _UNTIL + 1


def test_the_newest_spellings_are_kept_and_the_views_of_the_others_go(records: Records, layout: StoreLayout) -> None:
    record = _RECORD
    for number in range(MAX_SPELLINGS + 3):
        record = record.with_spelling(f"{_HANDLE}#{number}")
        records.put(record, direct_until=_UNTIL)
    record = record.with_spelling(f"{_HANDLE}#5")
    records.put(record, direct_until=_UNTIL)
    assert record.spellings == tuple(f"{_HANDLE}#{number}" for number in (3, 4, *range(6, MAX_SPELLINGS + 3), 5))
    assert _views(layout) == _views_of(layout, record)
    validated = Record.model_validate({**record.model_dump(), "spellings": [*"abcdefghijklmnopqrs", "s", "r"]})
    assert validated.spellings == (*"defghijklmnopq", "s", "r")


def test_times_are_kept_in_utc() -> None:
    time = datetime(2026, 5, 6, 7, 8, 9, tzinfo=timezone(timedelta(hours=2)))
    record = Record.model_validate({**_RECORD.model_dump(), "fetched_at": time})
    assert record.fetched_at == time
    assert record.fetched_at.tzinfo is UTC
    with pytest.raises(ValueError, match="timezone"):
        Record.model_validate({**_RECORD.model_dump(), "fetched_at": datetime(2026, 5, 6)})


@pytest.mark.parametrize(
    "spoil",
    [b"", b"{", b"{}", b"null", b"\xff\xfe", b"x" * (2 << 20), _RECORD.model_dump_json().encode()[:-10]],
    ids=["empty", "cut", "bare", "null", "no-utf8", "huge", "torn"],
)
def test_a_damaged_record_is_as_good_as_none_and_a_warning(
    records: Records, layout: StoreLayout, spoil: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    records.put(_RECORD, direct_until=_UNTIL)
    Path(layout.record(_RECORD.key)).write_bytes(spoil)
    with caplog.at_level(logging.WARNING):
        assert records.get(_RECORD.key) is None
    assert layout.record(_RECORD.key) in caplog.text
    assert list(records.keys()) == [_RECORD.key]
    assert list(records.all()) == []
    records.put(_RECORD, direct_until=_UNTIL)
    assert records.get(_RECORD.key) == _RECORD


@pytest.mark.parametrize("digest", ["../../../etc", "A" * 64, ""])
def test_a_record_with_a_digest_that_is_none_is_damaged(records: Records, layout: StoreLayout, digest: str) -> None:
    data = _RECORD.model_dump_json().replace(_RECORD.digest, digest)
    Path(layout.record(_RECORD.key)).write_text(data)
    assert records.get(_RECORD.key) is None


@pytest.mark.parametrize("fetched_at", ["9999-12-31T23:59:59-01:00", "0001-01-01T00:00:00+01:00"])
def test_a_record_with_a_time_that_is_none_is_damaged(records: Records, layout: StoreLayout, fetched_at: str) -> None:
    data = {**_RECORD.model_dump(mode="json"), "fetched_at": fetched_at}
    Path(layout.record(_RECORD.key)).write_text(json.dumps(data))
    assert records.get(_RECORD.key) is None


def test_views_of_impossible_times_are_right_once_they_are_written(records: Records) -> None:
    for until in (-6e10, 3e11):
        records.put(_RECORD, direct_until=until)
        assert records.views_are_right(_RECORD, direct_until=until)


def test_a_use_in_a_time_to_come_counts_as_one_now(records: Records, layout: StoreLayout) -> None:
    records.put(_RECORD, direct_until=_UNTIL)
    now = time.time()
    os.utime(layout.record(_RECORD.key), (now + 1e8, now + 1e8))
    last_used = records.last_used(_RECORD.key)
    assert last_used is not None
    assert now <= last_used < now + 60


def test_a_record_under_another_key_is_damaged(records: Records, layout: StoreLayout) -> None:
    other = handles.key("https://example.com/other")
    Path(layout.record(other)).write_text(_RECORD.model_dump_json())
    assert records.get(other) is None


def test_a_record_is_never_read_through_a_link_or_from_a_pipe(
    records: Records, layout: StoreLayout, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere.json").write_text(_RECORD.model_dump_json())
    os.symlink(tmp_path / "elsewhere.json", layout.record(_RECORD.key))
    assert records.get(_RECORD.key) is None
    os.unlink(layout.record(_RECORD.key))
    os.mkfifo(layout.record(_RECORD.key))
    assert records.get(_RECORD.key) is None


def test_a_record_that_cannot_be_read_is_no_missing_one(records: Records, layout: StoreLayout) -> None:
    os.rmdir(layout.handles)
    Path(layout.handles).touch()
    with pytest.raises(Internal, match="reading a record"):
        records.get(_RECORD.key)


def test_fields_of_a_newer_version_are_ignored(records: Records, layout: StoreLayout) -> None:
    data = _RECORD.model_dump_json()
    Path(layout.record(_RECORD.key)).write_text(data[:-1] + ',"new_field":1}')
    assert records.get(_RECORD.key) == _RECORD


def test_missing_and_wrong_views_are_mended_and_right_ones_left(records: Records, layout: StoreLayout) -> None:
    records.put(_RECORD, direct_until=_UNTIL)
    assert not records.mend_views(_RECORD, direct_until=_UNTIL)
    for path in _views(layout):
        os.unlink(path)
        assert records.mend_views(_RECORD, direct_until=_UNTIL)
        os.unlink(path)
        os.symlink("../trees/elsewhere", path)
        assert records.mend_views(_RECORD, direct_until=_UNTIL)
        assert not records.mend_views(_RECORD, direct_until=_UNTIL)
    assert records.mend_views(_RECORD, direct_until=_UNTIL + 1)
    assert os.lstat(layout.handle_link(_RECORD.key)).st_mtime == _UNTIL + 1
    assert _views(layout) == _views_of(layout, _RECORD)


def test_amending_loses_no_write_of_another_thread(records: Records, layout: StoreLayout) -> None:
    assert records.amend(_RECORD.key, lambda record: record, lambda record: _UNTIL) is None
    records.put(_RECORD, direct_until=_UNTIL)

    def add(spelling: str) -> None:
        records.amend(_RECORD.key, lambda now: now and now.with_spelling(spelling), lambda record: _UNTIL)

    added = [f"{_HANDLE}#{number}" for number in range(12)]
    threads = [threading.Thread(target=add, args=(spelling,)) for spelling in added]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    record = records.get(_RECORD.key)
    assert record is not None
    assert set(record.spellings) == {*_RECORD.spellings, *added}
    assert _views(layout) == _views_of(layout, record)
    assert records.views_are_right(record, direct_until=_UNTIL)
    os.unlink(layout.tfhub_view(_HANDLE))
    assert not records.views_are_right(record, direct_until=_UNTIL)


def test_amending_nothing_writes_nothing(records: Records, layout: StoreLayout) -> None:
    records.put(_RECORD, direct_until=_UNTIL)
    before = os.lstat(layout.record(_RECORD.key))
    assert records.amend(_RECORD.key, lambda record: record, lambda record: _UNTIL) == _RECORD
    assert os.lstat(layout.record(_RECORD.key)) == before


def test_views_are_not_mended_from_a_record_that_has_changed_since(records: Records, layout: StoreLayout) -> None:
    records.put(_RECORD, direct_until=_UNTIL)
    newer = record_of(_HANDLE, {"saved_model.pb": b"new"})
    records.put(newer, direct_until=_UNTIL)
    assert not records.mend_views(_RECORD, direct_until=_UNTIL)
    records.remove(newer.key)
    assert not records.mend_views(newer, direct_until=_UNTIL)
    assert _views(layout) == {}


def test_views_of_a_tree_that_is_gone_are_not_made(records: Records, layout: StoreLayout) -> None:
    record = record_of("https://example.com/gone", {"saved_model.pb": b"gone"})
    records.put(record, direct_until=_UNTIL)
    for path in _views(layout):
        os.unlink(path)
    assert not records.mend_views(record, direct_until=_UNTIL)
    assert _views(layout) == {}


def test_an_entry_of_tensorflow_hub_is_never_replaced_or_removed(records: Records, layout: StoreLayout) -> None:
    theirs = Path(layout.tfhub_view(_HANDLE))
    theirs.mkdir()
    (theirs / "saved_model.pb").write_bytes(b"theirs")
    records.put(_RECORD, direct_until=_UNTIL)
    assert not records.mend_views(_RECORD, direct_until=_UNTIL)
    records.remove(_RECORD.key)
    assert (theirs / "saved_model.pb").read_bytes() == b"theirs"


def test_a_private_record_is_another_one_than_everyones_and_has_no_views(records: Records, layout: StoreLayout) -> None:
    private = _RECORD.model_copy(update={"reader": 1000})
    records.put(private, direct_until=_UNTIL)
    assert private.key != _RECORD.key
    assert (records.get(private.key), records.get(_RECORD.key)) == (private, None)
    assert _views(layout) == {}
    assert not records.mend_views(private, direct_until=_UNTIL)
    records.put(_RECORD, direct_until=_UNTIL)
    views = _views(layout)
    records.put(private, direct_until=_UNTIL)
    records.remove(private.key)
    assert _views(layout) == views


def test_removing_takes_the_views_and_the_record(records: Records, layout: StoreLayout) -> None:
    records.put(_RECORD, direct_until=_UNTIL)
    records.remove(_RECORD.key)
    assert records.get(_RECORD.key) is None
    assert os.listdir(layout.handles) == []
    assert os.listdir(layout.tfhub) == []
    records.remove(_RECORD.key)


def test_recency_is_the_mtime_of_the_record_and_touching_never_raises(records: Records, layout: StoreLayout) -> None:
    records.touch(_RECORD.key)
    assert records.last_used(_RECORD.key) is None
    records.put(_RECORD, direct_until=_UNTIL)
    os.utime(layout.record(_RECORD.key), (1, 1))
    assert records.last_used(_RECORD.key) == 1
    records.touch(_RECORD.key)
    last_used = records.last_used(_RECORD.key)
    assert last_used is not None
    assert abs(last_used - datetime.now().timestamp()) < 60
    assert records.get(_RECORD.key) == _RECORD


def test_writers_at_once_leave_views_that_say_what_the_record_says(records: Records, layout: StoreLayout) -> None:
    versions = [record_of(_HANDLE, {"saved_model.pb": bytes([number])}) for number in range(4)]

    def write(record: Record) -> None:
        for _ in range(10):
            records.put(record, direct_until=_UNTIL)
            records.mend_views(record, direct_until=_UNTIL)

    threads = [threading.Thread(target=write, args=(record,)) for record in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    last = records.get(_RECORD.key)
    assert last in versions
    assert _views(layout) == _views_of(layout, last)
    assert os.listdir(layout.staging) == []


def test_an_unchanged_record_is_read_once_and_a_changed_one_again(records: Records, layout: StoreLayout) -> None:
    records.put(_RECORD, direct_until=_UNTIL)
    path = Path(layout.record(_RECORD.key))
    assert records.get(_RECORD.key) is records.get(_RECORD.key)
    records.put(_RECORD.model_copy(update={"pinned": True}), direct_until=_UNTIL)
    known = records.get(_RECORD.key)
    assert known is not None
    assert known.pinned
    os.utime(path, (1, 1))
    path.write_text(_RECORD.model_copy(update={"etag": "other"}).model_dump_json())
    known = records.get(_RECORD.key)
    assert known is not None
    assert known.etag == "other"
    path.write_text("{}")
    assert records.get(_RECORD.key) is None
    path.unlink()
    assert records.get(_RECORD.key) is None

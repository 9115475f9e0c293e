"""The beginning of an archive is gone on from only as far as it is surely right; a wrong one costs itself alone."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hubclient.contract import handles
from hubd.store.adoption import adopt
from hubd.store.disk import Disk
from hubd.store.layout import StagingLayout, StoreLayout
from hubd.store.ledger import Ledger, disk_bytes
from hubd.store.partials import WORTH_BYTES, Partials
from hubd.store.recovery import clear
from hubd.store.staging import Staging
from hubd.store.transfers import Transfer

HANDLE = "https://example.com/m/1"
KEY = handles.key(HANDLE)
TOTAL_BYTES = 4 * WORTH_BYTES
SPOOL_BYTES = 2 * WORTH_BYTES
DAY = 86400.0


def transfer(**fields: Any) -> Transfer:
    stated = {"handle": HANDLE, "etag": '"a"', "boot_id": "this", "updated_at": datetime.now(UTC), **fields}
    return Transfer.model_validate({"total_bytes": TOTAL_BYTES, **stated})


@pytest.fixture
def layout(tmp_path: Path) -> StoreLayout:
    with adopt(str(tmp_path / "cache"), socket="/s") as hold:
        return hold.layout


@pytest.fixture
def partials(layout: StoreLayout) -> Partials:
    return Partials(layout, Ledger(), DAY, boot_id="this")


def place(layout: StoreLayout, **fields: Any) -> StagingLayout:
    """What a daemon that was killed left."""
    staging = Staging(layout, Disk(), Ledger())
    left = StagingLayout(staging.path)
    Path(left.archive).write_bytes(b"x" * SPOOL_BYTES)
    Path(left.transfer).write_text(transfer(**fields).model_dump_json())
    os.mkdir(left.tree(1))
    return left


def keep(layout: StoreLayout, partials: Partials, size_bytes: int = SPOOL_BYTES) -> bool:
    """At the end of a fetch."""
    staging = Staging(layout, Disk(), partials.ledger)
    Path(staging.archive).write_bytes(b"x" * size_bytes)
    staging.attempt_tree(1)
    transfer = partials.begun(HANDLE, '"a"', None, TOTAL_BYTES)
    return partials.keep(staging, transfer, os.path.getsize(staging.archive))


@pytest.mark.parametrize(
    ("spool_bytes", "total_bytes", "boot_id", "ranges", "from_bytes"),
    [
        (500, 1000, "this", [], 500),
        (1000, 1000, "this", [], 999),
        (500, None, "this", [], 499),
        (0, None, "this", [], 0),
        (500, 1000, "other", [], 0),
        (500, 1000, "other", [[0, 300]], 300),
        (200, 1000, "other", [[0, 300]], 200),
        (1000, 1000, "other", [[0, 1000]], 999),
        (500, 1000, "other", [[100, 300]], 0),
        (500, 1000, "other", [[0, 100], [200, 300]], 100),
        (500, None, "other", [[0, 300]], 299),
    ],
)
def test_after_another_boot_only_what_was_synced_counts_and_a_byte_to_ask_for_is_left(
    spool_bytes: int, total_bytes: int | None, boot_id: str, ranges: list[list[int]], from_bytes: int
) -> None:
    known = transfer(boot_id=boot_id, ranges=ranges, total_bytes=total_bytes)
    assert known.resume_bytes(spool_bytes, "this") == from_bytes


@pytest.mark.parametrize("boot_id", ["this", "other"])
def test_of_a_file_with_holes_only_what_was_synced_counts_though_the_machine_runs_on(boot_id: str) -> None:
    known = transfer(boot_id=boot_id, ranges=[[0, 300]], total_bytes=1000, sparse=True)
    assert known.resume_bytes(900, "this") == 300


def test_what_is_kept_of_a_file_with_holes_ends_at_the_first(layout: StoreLayout) -> None:
    partials = Partials(layout, Ledger(), 1000.0)
    staging = Staging(layout, Disk(), partials.ledger)
    with open(staging.archive, "wb") as spool:
        spool.write(b"x" * SPOOL_BYTES)
        spool.seek(2 * SPOOL_BYTES)
        spool.write(b"y")
    sparse = partials.begun(HANDLE, '"a"', None, TOTAL_BYTES).model_copy(update={"sparse": True})
    assert partials.keep(staging, sparse, SPOOL_BYTES)
    claimed = partials.claim(handles.key(HANDLE))
    assert claimed is not None
    assert not claimed.transfer.sparse
    assert claimed.resume_bytes == os.path.getsize(staging.archive) == SPOOL_BYTES


@pytest.mark.parametrize(
    "fields",
    [
        {"handle": "https://example.com/m/../1"},
        {"handle": "HTTPS://example.com/m/1"},
        {"handle": "no handle"},
        {"etag": None},
        {"etag": 'W/"a"'},
        {"etag": '"a"\r\nX: y'},
        {"etag": '"' + "a" * 2000 + '"'},
        {"last_modified": "now\n"},
        {"total_bytes": 0},
        {"ranges": [[-1, 5]]},
        {"ranges": [[5, 5]]},
        {"ranges": [[0, 5], [5, 9]]},
        {"ranges": [[6, 9], [0, 5]]},
        {"ranges": [[0, TOTAL_BYTES + 1]]},
        {"updated_at": "2020-01-01T00:00:00"},
    ],
)
def test_what_makes_no_sense_is_no_transfer(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        transfer(**fields)


def test_start_up_keeps_partials_and_nothing_else(layout: StoreLayout, partials: Partials) -> None:
    left = place(layout)
    os.mkdir(layout.new_staging())
    Path(layout.new_staging()).touch()
    clear(layout, partials)
    assert os.listdir(layout.staging) == [os.path.basename(left.path)]
    assert sorted(os.listdir(left.path)) == ["archive.part", "transfer.json"]
    ((key, size_bytes, _),) = partials.all()
    assert (key, size_bytes) == (KEY, disk_bytes(left.path))
    claimed = partials.claim(KEY)
    assert claimed is not None
    assert claimed.resume_bytes == SPOOL_BYTES


def _link_archive(left: StagingLayout) -> None:
    os.rename(left.archive, left.entry("elsewhere"))
    os.symlink(left.entry("elsewhere"), left.archive)


def _link_transfer(left: StagingLayout) -> None:
    os.rename(left.transfer, left.entry("elsewhere"))
    os.symlink(left.entry("elsewhere"), left.transfer)


def _fifo(left: StagingLayout) -> None:
    os.unlink(left.transfer)
    os.mkfifo(left.transfer)


def _edited(**fields: Any) -> Callable[[StagingLayout], None]:
    def edit(left: StagingLayout) -> None:
        transfer = json.loads(Path(left.transfer).read_text())
        Path(left.transfer).write_text(json.dumps({**transfer, **fields}))

    return edit


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda left: os.unlink(left.transfer), id="no-transfer"),
        pytest.param(lambda left: os.unlink(left.archive), id="no-archive"),
        pytest.param(lambda left: os.truncate(left.transfer, 30), id="torn"),
        pytest.param(lambda left: os.truncate(left.transfer, 0), id="empty"),
        pytest.param(lambda left: Path(left.transfer).write_bytes(b"\xff" * 100), id="no-text"),
        pytest.param(lambda left: Path(left.transfer).write_bytes(b"[" * 70_000), id="huge"),
        pytest.param(lambda left: os.truncate(left.archive, WORTH_BYTES - 1), id="small"),
        pytest.param(lambda left: os.truncate(left.archive, TOTAL_BYTES + 1), id="more-than-the-whole"),
        pytest.param(_link_archive, id="linked-archive"),
        pytest.param(_link_transfer, id="linked-transfer"),
        pytest.param(_fifo, id="fifo"),
        pytest.param(_edited(handle="ftp://x/y"), id="no-handle"),
        pytest.param(_edited(etag='"a"\r\nHost: y'), id="no-etag"),
        pytest.param(_edited(boot_id="other", ranges=[[0, 1000]]), id="little-synced"),
        pytest.param(_edited(updated_at="2020-01-01T00:00:00Z"), id="expired"),
        pytest.param(_edited(updated_at="2990-01-01T00:00:00Z"), id="of-times-to-come"),
    ],
)
def test_what_is_wrong_with_a_partial_costs_that_partial_alone(
    layout: StoreLayout, partials: Partials, damage: Callable[[StagingLayout], None]
) -> None:
    other = place(layout, handle="https://example.com/other/1")
    damage(place(layout))
    clear(layout, partials)
    assert [partial.key for partial in partials.all()] == [handles.key("https://example.com/other/1")]
    assert os.listdir(layout.staging) == [os.path.basename(other.path)]


@pytest.mark.parametrize("first", [0, 1])
def test_of_two_partials_of_a_handle_the_newer_stays(layout: StoreLayout, partials: Partials, first: int) -> None:
    now = datetime.now(UTC)
    left = [place(layout, updated_at=now - timedelta(hours=1)), place(layout, updated_at=now)]
    assert partials.adopt(left[first].path)
    assert partials.adopt(left[1 - first].path) == (first == 0)
    (kept,) = partials.all()
    assert kept.updated_at == now
    claimed = partials.claim(KEY)
    assert claimed is not None
    assert claimed.path == left[1].path


def test_a_partial_is_claimed_once_and_can_be_given_back(layout: StoreLayout, partials: Partials) -> None:
    assert keep(layout, partials)
    claimed = partials.claim(KEY)
    assert claimed is not None
    assert sorted(os.listdir(claimed.path)) == ["archive.part", "transfer.json"]
    assert partials.claim(KEY) is None
    assert partials.drop(KEY) == 0, "it is in use"
    assert partials.all() == []
    partials.give_back(claimed)
    assert partials.claim(KEY) == claimed


def test_what_is_kept_later_takes_the_place_of_what_was(layout: StoreLayout, partials: Partials) -> None:
    assert keep(layout, partials)
    assert keep(layout, partials, WORTH_BYTES)
    ((_, size_bytes, _),) = partials.all()
    assert WORTH_BYTES <= size_bytes < WORTH_BYTES + 32_768
    assert len(os.listdir(layout.staging)) == 1


def test_the_ledger_knows_what_a_partial_takes(layout: StoreLayout) -> None:
    ledger = Ledger()
    left, adopting = place(layout), Partials(layout, ledger, DAY, boot_id="this")
    assert adopting.adopt(left.path)
    assert ledger.bytes_of(left.path) == disk_bytes(left.path) >= SPOOL_BYTES
    assert ledger.used_bytes == disk_bytes(layout.staging) + disk_bytes(layout.trash) - _empty(layout)
    adopting.drop(KEY)
    assert ledger.bytes_below(layout.staging) == 0
    assert ledger.bytes_below(layout.trash) >= SPOOL_BYTES


def _empty(layout: StoreLayout) -> int:
    """What the two directories themselves take."""
    return sum(os.lstat(path).st_blocks * 512 for path in (layout.staging, layout.trash))


def test_a_partial_can_be_dropped_for_its_room(layout: StoreLayout, partials: Partials) -> None:
    assert keep(layout, partials)
    assert partials.drop(KEY) >= SPOOL_BYTES
    assert os.listdir(layout.staging) == []
    assert partials.drop(KEY) == 0
    assert len(partials) == 0


def test_little_is_not_worth_keeping(layout: StoreLayout, partials: Partials) -> None:
    assert not keep(layout, partials, WORTH_BYTES - 1)
    assert len(partials) == 0


@pytest.mark.parametrize("how", ["gone", "grown", "linked"])
def test_a_partial_that_is_not_as_it_was_left_is_not_claimed(layout: StoreLayout, partials: Partials, how: str) -> None:
    left = place(layout)
    assert partials.adopt(left.path)
    match how:
        case "gone":
            os.unlink(left.archive)
        case "grown":
            os.truncate(left.archive, SPOOL_BYTES + 1)
        case _:
            _link_archive(left)
    assert partials.claim(KEY) is None
    assert os.listdir(layout.staging) == []


def test_to_go_on_means_without_what_is_beyond(layout: StoreLayout, partials: Partials) -> None:
    left = place(layout, boot_id="other", ranges=[[0, WORTH_BYTES + 5]])
    assert partials.adopt(left.path)
    claimed = partials.claim(KEY)
    assert claimed is not None
    staging = partials.staging(claimed)
    assert os.path.getsize(staging.archive) == claimed.resume_bytes == WORTH_BYTES + 5
    assert os.path.isdir(staging.attempt_tree(1))


def test_those_that_nobody_came_back_for_go(layout: StoreLayout) -> None:
    partials = Partials(layout, Ledger(), DAY, boot_id="this")
    old = place(layout, updated_at=datetime.now(UTC) - timedelta(hours=12))
    assert partials.adopt(old.path)
    assert partials.adopt(place(layout, handle="https://example.com/other/1").path)
    assert partials.expire() == 0
    partials.keep_seconds = DAY / 2  # as if as much had passed
    assert partials.expire() == 1
    assert [partial.key for partial in partials.all()] == [handles.key("https://example.com/other/1")]
    assert not os.path.exists(old.path)


def test_an_expired_one_is_not_claimed(layout: StoreLayout) -> None:
    partials = Partials(layout, Ledger(), DAY, boot_id="this")
    old = place(layout, updated_at=datetime.now(UTC) - timedelta(hours=12))
    assert partials.adopt(old.path)
    partials.keep_seconds = DAY / 2
    assert partials.claim(KEY) is None
    assert not os.path.exists(old.path)


class FullDisk(Disk):
    """Has no room for another byte."""

    def write(self, fd: int, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_on_a_full_disk_what_arrived_can_be_gone_on_from(layout: StoreLayout) -> None:
    partials = Partials(layout, Ledger(), DAY, FullDisk())
    assert keep(layout, partials)
    assert partials.claim(KEY) is not None
    assert len(os.listdir(layout.staging)) == 1, "no temporary file is left"

"""What ends a fetch decides what is kept of it, and to keep it costs small archives nothing."""

from __future__ import annotations

import asyncio
import errno
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hubclient.contract import errors
from hubd.fetching.keeping import Keeping, is_mendable
from hubd.fetching.means import Means
from hubd.network.conditions import Validators
from hubd.network.session import Session
from hubd.network.sources import Delivery, HttpSource
from hubd.store.adoption import adopt
from hubd.store.disk import Disk
from hubd.store.staging import Staging
from tests.support.journal import RecordingDisk
from tests.support.means import NETWORK, means_of

MIB = 1 << 20
STRONG = Validators('"a"')


@pytest.mark.parametrize(
    ("error", "mendable"),
    [
        (asyncio.CancelledError(), True),
        (errors.UpstreamUnavailable("cut"), True),
        (errors.UpstreamTimeout("silent"), True),
        (errors.DiskFull("full"), True),
        (errors.CacheFull("full"), True),
        (OSError(errno.ENOSPC, "full"), True),
        (OSError(errno.EDQUOT, "over the quota"), True),
        (OSError(errno.EIO, "broken"), False),
        (errors.ArchiveCorrupt("x"), False),
        (errors.ArchiveUnsafe("x"), False),
        (errors.ArchiveTooLarge("x"), False),
        (errors.NotAModule("x"), False),
        (errors.DigestMismatch("x"), False),
        (errors.Internal("x"), False),
        (RuntimeError("x"), False),
        (GeneratorExit(), False),
    ],
)
def test_only_what_a_later_try_can_mend_is_kept(error: BaseException, mendable: bool) -> None:
    assert is_mendable(error) == mendable


@pytest.fixture
def disk() -> RecordingDisk:
    return RecordingDisk()


@pytest.fixture
def means(tmp_path: Path, disk: RecordingDisk) -> Iterator[Means]:
    with adopt(str(tmp_path / "cache"), socket="/s") as hold, ThreadPoolExecutor(1) as threads:
        yield means_of(hold.layout, HttpSource(Session(NETWORK)), threads, disk)


def keeping(means: Means, strong: Validators | None = STRONG, from_bytes: int = 0) -> Keeping:
    staging = means.trees.stage()
    Path(staging.archive).write_bytes(b"x" * 2 * MIB)
    delivery = Delivery(None, 3 * MIB, Validators('"a"'), "host", from_bytes, strong)
    return Keeping(means, "https://example.com/m/1", delivery, staging)


def saves(means: Means, disk: RecordingDisk) -> int:
    """How often it was saved, once all that was begun is done."""
    means.threads.submit(lambda: None).result()
    return sum(call.kind == "entry" and call.made.endswith("/transfer.json") for call in disk.calls)


def syncs(disk: RecordingDisk) -> int:
    """How often the archive itself was synced."""
    return sum(call.kind == "fsync" and call.lasts_with[0].endswith("/archive.part") for call in disk.calls)


def test_a_small_archive_costs_nothing(means: Means, disk: RecordingDisk) -> None:
    small = keeping(means)
    small.on_frontier(MIB - 1)
    small.leave(None)
    assert saves(means, disk) == 0
    assert len(means.partials) == 0


def test_a_larger_one_is_saved_at_once_and_then_every_10_s(
    means: Means, disk: RecordingDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = keeping(means)
    large.on_frontier(MIB)
    assert saves(means, disk) == 1
    assert syncs(disk) == 0, "a transfer that takes a moment is not slowed down"
    large.on_frontier(MIB + 1)
    assert saves(means, disk) == 1
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 10.0)
    large.on_frontier(MIB + 2)
    assert saves(means, disk) == 2
    assert syncs(disk) == 1


def test_one_that_goes_on_is_saved_when_it_has_got_on(means: Means, disk: RecordingDisk) -> None:
    resumed = keeping(means, from_bytes=MIB)
    resumed.on_frontier(2 * MIB - 1)
    assert saves(means, disk) == 0
    resumed.on_frontier(2 * MIB)
    assert saves(means, disk) == 1
    assert syncs(disk) == 1


def test_what_cannot_be_asked_for_again_is_never_saved(means: Means, disk: RecordingDisk) -> None:
    unnamed = keeping(means, strong=None)
    unnamed.on_frontier(2 * MIB)
    unnamed.leave(asyncio.CancelledError())
    assert saves(means, disk) == 0
    assert len(means.partials) == 0


def test_nothing_is_saved_after_the_end(means: Means, disk: RecordingDisk) -> None:
    ended = keeping(means)
    ended.leave(errors.ArchiveCorrupt("x"))
    ended.on_frontier(2 * MIB)
    assert saves(means, disk) == 0


class SlowStaging(Staging):
    """Its bytes are counted when the test says so."""

    counting, may_count = threading.Event(), threading.Event()

    def count(self) -> None:
        self.counting.set()
        assert self.may_count.wait(20)
        super().count()


def test_a_place_that_goes_while_it_is_handed_over_leaves_no_account(means: Means) -> None:
    trees = means.trees
    staging = SlowStaging(trees.layout, Disk(), trees.ledger)
    Path(staging.archive).write_bytes(b"x" * MIB)
    surrendered = Keeping(means, "https://example.com/m/1", Delivery(None, MIB, STRONG, "host"), staging)
    surrendered.surrender()
    with ThreadPoolExecutor(2) as threads:
        handing = threads.submit(surrendered.hand_over)
        assert staging.counting.wait(20)
        going = threads.submit(surrendered.discard)
        with pytest.raises(TimeoutError):
            going.result(timeout=0.2)
        staging.may_count.set()
        handing.result(timeout=20)
        going.result(timeout=20)
    assert trees.ledger.bytes_of(staging.path) == 0
    assert not Path(staging.path).exists()

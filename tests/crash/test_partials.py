"""Kills and power cuts at every writing call of a download: the next daemon goes on from what is right, or anew.

A download begins, or goes on from what an earlier daemon left.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hubclient.contract import handles
from hubd.store.adoption import adopt
from hubd.store.disk import Disk
from hubd.store.layout import StagingLayout, StoreLayout
from hubd.store.ledger import Ledger
from hubd.store.partials import WORTH_BYTES, Partials
from hubd.store.recovery import clear
from hubd.store.trees import Trees
from tests.support.journal import Call, RecordingDisk, killed, replay

HANDLE = "https://example.com/m/1"
KEY = handles.key(HANDLE)
ARCHIVE = random.Random(3).randbytes(6 * WORTH_BYTES)
PIECE_BYTES = WORTH_BYTES // 2
PIECES = 5


@pytest.fixture
def layout() -> Iterator[StoreLayout]:
    in_memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=in_memory, prefix="hubd-test-") as directory:
        hold = adopt(f"{directory}/cache", socket="/s")
        hold.close()
        yield hold.layout


def _receive(
    layout: StoreLayout, disk: Disk, boot_id: str, on_saved: Callable[[int], None] = lambda frontier_bytes: None
) -> None:
    """A fetch of the next pieces: some of what arrives is saved on the way, and all is kept when it ends early."""
    partials = Partials(layout, Ledger(), 1000.0, disk, boot_id)
    clear(layout, partials, disk)
    transfer = partials.begun(HANDLE, '"a"', None, len(ARCHIVE))
    if (claimed := partials.claim(KEY)) is not None:
        staging, at = partials.staging(claimed), claimed.resume_bytes
        fd = os.open(staging.archive, os.O_WRONLY | os.O_APPEND)
        if isinstance(disk, RecordingDisk):
            disk.opened(fd, staging.archive)
    else:
        staging, at = Trees(layout, disk).stage(), 0
        fd = disk.create(staging.archive, 0o600)
    staging.attempt_tree(1)
    for number in range(PIECES):
        disk.write(fd, ARCHIVE[at : at + PIECE_BYTES])
        at += PIECE_BYTES
        if at == PIECE_BYTES:
            partials.save(staging, transfer, 0)
        elif number % 2:
            partials.save(staging, transfer, at)
            on_saved(at)
    os.close(fd)
    assert partials.keep(staging, transfer, at)
    on_saved(at)


def _resume_bytes(layout: StoreLayout, boot_id: str) -> int:
    """From where the next daemon goes on; 0: it begins anew. All before must be the archive's."""
    with adopt(layout.root, socket="/s"):
        partials = Partials(layout, Ledger(), 1000.0, boot_id=boot_id)
        clear(layout, partials)
        assert len(os.listdir(layout.staging)) == len(partials) <= 1
        claimed = partials.claim(KEY)
        if claimed is None:
            return 0
        assert sorted(os.listdir(claimed.path)) == ["archive.part", "transfer.json"]
        spool = Path(StagingLayout(claimed.path).archive).read_bytes()
        assert spool[: claimed.resume_bytes] == ARCHIVE[: claimed.resume_bytes]
        return claimed.resume_bytes


@pytest.fixture(params=["begins", "goes-on", "goes-on-after-a-boot"])
def before(request: pytest.FixtureRequest, layout: StoreLayout, tmp_path: Path) -> Path:
    """What the cache is like before the download."""
    if request.param != "begins":
        _receive(layout, Disk(), "this" if request.param == "goes-on" else "earlier")
    if request.param == "goes-on-after-a-boot":
        (place,) = Path(layout.staging).iterdir()
        with open(StagingLayout(str(place)).archive, "ab") as spool:
            spool.write(bytes(1000))  # the size had reached the disk, the data had not
    shutil.copytree(layout.root, tmp_path / "before", symlinks=True)
    return tmp_path / "before"


def _reset(layout: StoreLayout, before: Path) -> None:
    shutil.rmtree(layout.root)
    shutil.copytree(before, layout.root, symlinks=True)


def test_a_kill_at_any_call_loses_no_byte_that_was_there_before(layout: StoreLayout, before: Path) -> None:
    there_before = _resume_bytes(layout, "this")
    _reset(layout, before)
    fatal, seen = 1, []
    while killed(fatal, lambda disk: _receive(layout, disk, "this")):
        seen.append(_resume_bytes(layout, "this"))
        _reset(layout, before)
        fatal += 1
    assert fatal > 20
    assert min(seen) >= there_before
    assert max(seen) == there_before + PIECES * PIECE_BYTES


@pytest.mark.parametrize("seed", range(5))
def test_a_power_cut_at_any_call_leaves_what_was_saved(layout: StoreLayout, before: Path, seed: int) -> None:
    """Seed 0: nothing that was not fsynced survives; 1: all entries do, without their data; else a random part does."""
    there_before = _resume_bytes(layout, "this")
    _reset(layout, before)
    disk, saved = RecordingDisk(), [(0, there_before)]
    _receive(layout, disk, "this", lambda frontier_bytes: saved.append((len(disk.calls), frontier_bytes)))
    chance = random.Random(seed)

    def survives(call: Call) -> bool:
        return [False, call.kind == "entry", chance.random() < 0.5][min(seed, 2)]

    assert len(saved) > 2
    for cut in range(len(disk.calls) + 1):
        _reset(layout, before)
        replay(disk.calls[:cut], survives)
        least = max(frontier_bytes for calls, frontier_bytes in saved if calls <= cut)
        assert _resume_bytes(layout, "next") >= least, f"cut after call {cut}"

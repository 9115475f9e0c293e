"""A directory of archives as an origin: what it has, and that a handle never climbs out of it."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path

import pytest

from hubclient.contract.errors import UpstreamDenied, UpstreamNotFound, UpstreamUnavailable
from hubd.network.archive_directory import ArchiveDirectory, segments
from hubd.network.conditions import Resume, Validators
from hubd.network.sources import ArchiveRequest, Delivery
from tests.support.uids import ALICE, as_user, directory_of, needs_root
from tests.support.waiting import wait_until

HANDLE = "https://tfhub.dev/m/1"
BYTES = bytes(range(256)) * (5 * 4096 + 1)  # five pieces and the beginning of one


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "modules é"
    (made / "google").mkdir(parents=True)
    return made


def directory(root: Path) -> ArchiveDirectory:
    return ArchiveDirectory("file://" + str(root).replace(" ", "%20") + "/")


async def read(root: Path, rest: str, request: ArchiveRequest | None = None) -> tuple[Delivery, bytes]:
    async with directory(root).open(request or ArchiveRequest(HANDLE), rest) as delivery:
        body = delivery.body
        return delivery, b"".join([piece async for piece in body]) if body is not None else b""


@pytest.mark.parametrize("name", ["1.tar.gz", "1.tgz", "1"])
async def test_an_archive_is_found_under_each_of_its_names(root: Path, name: str) -> None:
    (root / "google" / name).write_bytes(BYTES)
    delivery, body = await read(root, "google/1")
    assert body == BYTES
    assert (delivery.total_bytes, delivery.from_bytes, delivery.final_host) == (len(BYTES), 0, "localhost")


async def test_the_name_with_an_ending_comes_before_the_bare_one(root: Path) -> None:
    (root / "1").mkdir()
    (root / "1.tar.gz").write_bytes(b"archive")
    (root / "1.tgz").write_bytes(b"other")
    assert (await read(root, "1"))[1] == b"archive"


async def test_names_are_percent_decoded(root: Path) -> None:
    (root / "a b.tar.gz").write_bytes(b"x")
    (root / "é.tar.gz").write_bytes(b"y")
    assert (await read(root, "a%20b"))[1] == b"x"
    assert (await read(root, "%C3%A9"))[1] == (await read(root, "é"))[1] == b"y"


@pytest.mark.parametrize(
    "rest",
    ["", "/", "a//b", "a/", "/etc/passwd", "..", "../x", "a/../x", ".", "%2e%2e/x", "%2E", "a%2fb", "a%00b", "a?b=c"],
)
def test_what_no_file_of_the_directory_can_be_has_no_names(rest: str) -> None:
    assert segments(rest) is None


async def test_no_link_is_followed_and_nothing_but_a_regular_file_is_read(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "1.tar.gz").write_bytes(b"secret")
    (root / "out").symlink_to(outside)
    (root / "file.tar.gz").symlink_to(outside / "1.tar.gz")
    (root / "within.tar.gz").write_bytes(b"within")
    (root / "latest.tar.gz").symlink_to("within.tar.gz")
    os.mkfifo(root / "pipe.tar.gz")
    (root / "directory.tar.gz").mkdir()
    names = ["out/1", "file", "latest", "pipe", "directory", "google", "none", "none/1", "within.tar.gz/1", "n" * 300]
    for rest in [*names, "../outside/1", "%2e%2e/outside/1", "..%2foutside%2f1"]:
        with pytest.raises(UpstreamNotFound, match="has no such module"):
            await read(root, rest)


async def test_an_archive_that_is_still_the_known_one_is_not_sent(root: Path) -> None:
    (root / "1.tar.gz").write_bytes(BYTES)
    first, _ = await read(root, "1")
    again, body = await read(root, "1", ArchiveRequest(HANDLE, known=first.validators))
    assert (again.body, again.validators, body) == (None, first.validators, b"")
    os.utime(root / "1.tar.gz", ns=(time.time_ns(), time.time_ns()))
    changed, body = await read(root, "1", ArchiveRequest(HANDLE, known=first.validators))
    assert (body, changed.validators != first.validators) == (BYTES, True)


async def test_the_rest_of_the_same_archive_is_sent_and_another_one_from_its_start(root: Path) -> None:
    (root / "1.tar.gz").write_bytes(BYTES)
    first, _ = await read(root, "1")
    assert first.strong == first.validators
    resume = Resume(1_500_000, len(BYTES), first.validators)
    rest, body = await read(root, "1", ArchiveRequest(HANDLE, resume=resume))
    assert (rest.from_bytes, body) == (1_500_000, BYTES[1_500_000:])
    other = Resume(1_500_000, len(BYTES), Validators('"other"'))
    whole, body = await read(root, "1", ArchiveRequest(HANDLE, resume=other))
    assert (whole.from_bytes, body) == (0, BYTES)


@pytest.mark.parametrize("change", ["grow", "truncate"])
async def test_an_archive_that_changes_while_it_is_read_is_an_error(root: Path, change: str) -> None:
    file = root / "1.tar.gz"
    file.write_bytes(BYTES)
    async with directory(root).open(ArchiveRequest(HANDLE), "1") as delivery:
        assert delivery.body is not None
        await anext(delivery.body)
        os.truncate(file, len(BYTES) + 1 if change == "grow" else 1000)
        with pytest.raises(UpstreamUnavailable, match="changed while it was read") as caught:
            await anext(delivery.body)
    assert caught.value.retryable


async def test_one_that_is_replaced_by_a_rename_is_read_to_its_end(root: Path) -> None:
    file = root / "1.tar.gz"
    file.write_bytes(BYTES)
    async with directory(root).open(ArchiveRequest(HANDLE), "1") as delivery:
        assert delivery.body is not None
        pieces = [await anext(delivery.body)]
        (root / "new").write_bytes(b"new")
        (root / "new").rename(file)
        pieces += [piece async for piece in delivery.body]
    assert b"".join(pieces) == BYTES


async def test_a_disk_that_hangs_holds_up_nobody_who_leaves(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "1.tar.gz").write_bytes(BYTES)
    reading, is_over, read_fds = threading.Event(), threading.Event(), list[int]()

    def pread(fd: int, size_bytes: int, offset: int) -> bytes:
        read_fds.append(fd)
        reading.set()
        is_over.wait(10)
        return b"late"

    monkeypatch.setattr(os, "pread", pread)
    async with directory(root).open(ArchiveRequest(HANDLE), "1") as delivery:
        assert delivery.body is not None
        piece = asyncio.ensure_future(anext(delivery.body))
        await asyncio.to_thread(reading.wait, 10)
        piece.cancel()
    # The thread has not read yet, and the descriptor is still its own.
    os.fstat(read_fds[0])
    is_over.set()
    await asyncio.to_thread(wait_until, lambda: not is_open(read_fds[0]))


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


async def test_a_directory_that_is_not_there_is_away_and_has_not_lost_its_modules(root: Path) -> None:
    with pytest.raises(UpstreamUnavailable, match="No such file or directory"):
        await read(root / "unmounted", "1")


@needs_root
def test_an_archive_that_hubd_may_not_read_is_denied() -> None:
    with directory_of(ALICE) as root:
        (Path(root) / "1.tar.gz").write_bytes(b"root's")
        (Path(root) / "1.tar.gz").chmod(0o600)
        with pytest.raises(UpstreamDenied, match="may not read"):
            as_user(ALICE, lambda: asyncio.run(read(Path(root), "1")))

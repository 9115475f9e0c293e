"""Bytes count once they are written, and never more arrive than may."""

from __future__ import annotations

import asyncio
import hashlib
import os
import resource
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from hubclient.contract.errors import ArchiveTooLarge, UpstreamUnavailable
from hubd.network.transfer import Received, receive


async def chunked(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def test_the_spool_the_digest_and_the_frontiers_agree(tmp_path: Path) -> None:
    chunks = [os.urandom(300_000) for _ in range(20)]
    spool, frontiers = tmp_path / "archive.part", list[int]()

    def on_frontier(frontier_bytes: int) -> None:
        assert spool.stat().st_size >= frontier_bytes, "the frontier never runs ahead of the disk"
        frontiers.append(frontier_bytes)

    body = b"".join(chunks)
    received = await receive(
        chunked(chunks), str(spool), total_bytes=len(body), limit_bytes=len(body), on_frontier=on_frontier
    )
    assert spool.read_bytes() == body
    assert received.digest == hashlib.sha256(body).hexdigest()
    assert received.size_bytes == frontiers[-1] == len(body)
    assert frontiers == sorted(frontiers)


async def test_more_bytes_than_the_limit_are_refused_while_they_come(tmp_path: Path) -> None:
    came = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal came
        while True:
            came += 1
            yield bytes(1000)

    with pytest.raises(ArchiveTooLarge):
        await receive(
            endless(), str(tmp_path / "part"), total_bytes=None, limit_bytes=10_000, on_frontier=lambda _: None
        )
    assert came == 11


@pytest.mark.parametrize("total_bytes", [5, 50])
async def test_a_body_of_another_length_than_announced_is_refused(tmp_path: Path, total_bytes: int) -> None:
    with pytest.raises(UpstreamUnavailable, match="announced"):
        await receive(
            chunked([b"0123456789"]),
            str(tmp_path / "part"),
            total_bytes=total_bytes,
            limit_bytes=100,
            on_frontier=lambda _: None,
        )


async def test_a_spool_that_is_there_already_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "part").symlink_to(tmp_path / "victim")
    with pytest.raises(FileExistsError):
        await receive(chunked([b"x"]), str(tmp_path / "part"), total_bytes=1, limit_bytes=9, on_frontier=lambda _: None)
    assert (tmp_path / "victim").read_text() == "precious"


async def test_what_arrived_before_a_stall_counts_during_it(tmp_path: Path) -> None:
    reached = asyncio.Event()

    async def stalling() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield bytes(100_000)
        async with asyncio.timeout(10):
            await reached.wait()

    def on_frontier(frontier_bytes: int) -> None:
        if frontier_bytes == 1_000_000:
            reached.set()

    await receive(stalling(), str(tmp_path / "part"), total_bytes=1_000_000, limit_bytes=10**9, on_frontier=on_frontier)


async def test_an_error_of_the_disk_ends_it(tmp_path: Path) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(100_000)

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            await receive(
                endless(), str(tmp_path / "part"), total_bytes=None, limit_bytes=10**9, on_frontier=lambda _: None
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


async def test_a_spool_that_was_begun_before_is_gone_on_with_and_its_digest_is_of_the_whole(tmp_path: Path) -> None:
    body = os.urandom(40_000_000)  # read again at more than one go
    spool, frontiers = tmp_path / "part", list[int]()
    spool.write_bytes(body[:35_000_000])
    rest = [body[start : start + 500_000] for start in range(35_000_000, len(body), 500_000)]
    received = await receive(
        chunked(rest),
        str(spool),
        total_bytes=len(body),
        limit_bytes=len(body),
        on_frontier=frontiers.append,
        from_bytes=35_000_000,
    )
    assert spool.read_bytes() == body
    assert received == Received(len(body), hashlib.sha256(body).hexdigest())
    assert frontiers[0] == 35_000_000, "what is there can be unpacked before the origin sends more"
    assert frontiers[-1] == len(body)


async def test_a_rest_that_is_too_long_or_too_short_is_refused(tmp_path: Path) -> None:
    for rest in (b"6789", b"6789012"):
        (tmp_path / "part").write_bytes(b"12345")
        with pytest.raises(UpstreamUnavailable, match="announced 10 bytes"):
            await receive(
                chunked([rest]),
                str(tmp_path / "part"),
                total_bytes=10,
                limit_bytes=100,
                on_frontier=lambda _: None,
                from_bytes=5,
            )


async def test_the_limit_counts_what_was_there_before(tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(b"12345")
    with pytest.raises(ArchiveTooLarge):
        await receive(
            chunked([b"678901"]),
            str(tmp_path / "part"),
            total_bytes=None,
            limit_bytes=10,
            on_frontier=lambda _: None,
            from_bytes=5,
        )


@pytest.mark.parametrize("size_bytes", [4, 6])
async def test_a_spool_of_another_size_than_it_should_have_is_left_alone(tmp_path: Path, size_bytes: int) -> None:
    (tmp_path / "part").write_bytes(b"x" * size_bytes)
    with pytest.raises(OSError, match="another size"):
        await receive(
            chunked([b"x"]),
            str(tmp_path / "part"),
            total_bytes=10,
            limit_bytes=10,
            on_frontier=lambda _: None,
            from_bytes=5,
        )
    assert (tmp_path / "part").stat().st_size == size_bytes


async def test_a_transfer_that_is_cancelled_does_not_wait_for_all_that_is_to_be_read_again(tmp_path: Path) -> None:
    spool, began = tmp_path / "part", asyncio.Event()
    with spool.open("wb") as file:
        file.truncate(4 << 30)  # seconds of reading

    async def silent() -> AsyncIterator[bytes]:
        began.set()
        await asyncio.sleep(60)
        yield b""

    async with asyncio.timeout(5):
        receiving = asyncio.create_task(
            receive(
                silent(),
                str(spool),
                total_bytes=None,
                limit_bytes=8 << 30,
                on_frontier=lambda _: None,
                from_bytes=4 << 30,
            )
        )
        await began.wait()
        started = time.monotonic()
        receiving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await receiving
    assert time.monotonic() - started < 1.0

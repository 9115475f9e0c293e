"""Bytes count once they are written, wherever they belong, and the digest is of the whole in its order."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import resource
import time
from pathlib import Path

import pytest

from hubclient.contract.errors import UpstreamUnavailable
from hubd.network.segments import Ranges
from hubd.network.spool import SpoolWriter

MIB = 1 << 20


async def test_pieces_in_any_order_make_one_file_and_one_digest(tmp_path: Path) -> None:
    body = os.urandom(20 * MIB + 7)
    pieces = [(start, body[start : start + 300_000]) for start in range(0, len(body), 300_000)]
    random.Random(5).shuffle(pieces)
    spool, frontiers = tmp_path / "part", list[int]()

    def on_written(written: Ranges) -> None:
        frontier = written.frontier_bytes
        assert spool.read_bytes()[:frontier] == body[:frontier], "the frontier never runs ahead of the disk"
        frontiers.append(frontier)

    async with SpoolWriter(str(spool), on_written) as writer:
        for offset, piece in pieces:
            writer.put(offset, piece)
            await writer.drained()
        assert await writer.finish(len(body)) == hashlib.sha256(body).hexdigest()
    assert spool.read_bytes() == body
    assert frontiers == sorted(frontiers)
    assert frontiers[-1] == len(body)


async def test_what_came_before_an_end_by_an_error_of_the_origin_is_written(tmp_path: Path) -> None:

    seen: list[int] = []

    async def cut() -> None:
        async with SpoolWriter(str(tmp_path / "part"), lambda written: seen.append(written.frontier_bytes)) as writer:
            for number in range(5):
                writer.put(number * 1000, bytes(1000))
            raise UpstreamUnavailable("cut")

    with pytest.raises(UpstreamUnavailable):
        await cut()
    assert (tmp_path / "part").stat().st_size == seen[-1] == 5000


async def test_a_spool_that_is_there_already_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "part").symlink_to(tmp_path / "victim")
    with pytest.raises(FileExistsError):
        SpoolWriter(str(tmp_path / "part"), lambda _: None)
    assert (tmp_path / "victim").read_text() == "precious"


async def test_an_error_of_the_disk_ends_it(tmp_path: Path) -> None:
    async def write() -> None:
        async with SpoolWriter(str(tmp_path / "part"), lambda _: None) as writer:
            for number in range(100):
                writer.put(number * 100_000, bytes(100_000))
                await writer.drained()

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            await write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


async def test_a_spool_that_was_begun_before_is_gone_on_with_and_its_digest_is_of_the_whole(tmp_path: Path) -> None:
    body = os.urandom(40_000_000)  # read again at more than one go
    spool, frontiers = tmp_path / "part", list[int]()
    spool.write_bytes(body[:35_000_000])

    async with SpoolWriter(str(spool), lambda w: frontiers.append(w.frontier_bytes), from_bytes=35_000_000) as writer:
        writer.put(35_000_000, body[35_000_000:])
        assert await writer.finish(len(body)) == hashlib.sha256(body).hexdigest()
    assert frontiers[0] == 35_000_000, "what is there can be unpacked before the origin sends more"
    assert frontiers[-1] == len(body)


@pytest.mark.parametrize("size_bytes", [4, 6])
async def test_a_spool_of_another_size_than_it_should_have_is_left_alone(tmp_path: Path, size_bytes: int) -> None:
    (tmp_path / "part").write_bytes(b"x" * size_bytes)
    with pytest.raises(OSError, match="another size"):
        SpoolWriter(str(tmp_path / "part"), lambda _: None, from_bytes=5)
    assert (tmp_path / "part").stat().st_size == size_bytes


async def test_one_that_is_cancelled_does_not_wait_for_all_that_is_to_be_read_again(tmp_path: Path) -> None:
    spool, began = tmp_path / "part", asyncio.Event()
    with spool.open("wb") as file:
        file.truncate(200 << 30)  # minutes of reading

    async def hash_all() -> None:
        async with SpoolWriter(str(spool), lambda _: began.set(), from_bytes=200 << 30) as writer:
            await writer.finish(200 << 30)

    async with asyncio.timeout(60):
        hashing = asyncio.create_task(hash_all())
        await began.wait()
        started = time.monotonic()
        hashing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hashing
    assert time.monotonic() - started < 20.0

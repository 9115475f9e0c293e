"""Bytes from an answer's body into the spool, with their digest.

Law: a byte counts (in the frontier, in the digest) only once it is written, and never more than the limit arrive.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from hubclient.contract.errors import ArchiveTooLarge, UpstreamUnavailable

_PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class Received:
    """An archive that is whole in its spool."""

    size_bytes: int
    digest: str


async def receive(
    chunks: AsyncIterator[bytes],
    spool: str,
    *,
    total_bytes: int | None,
    limit_bytes: int,
    on_frontier: Callable[[int], None],
) -> Received:
    """Writes the body to a new file `spool`; tells each new frontier (bytes ``[0, frontier)`` are there).

    Writing and hashing run in a thread beside the receiving. Raises `ArchiveTooLarge`, `UpstreamUnavailable`
    when the body is not `total_bytes` long, and `OSError` of the disk.
    """
    if total_bytes is not None and total_bytes > limit_bytes:
        raise ArchiveTooLarge(f"the archive has {total_bytes} bytes, more than limits.archive ({limit_bytes})")
    fd = os.open(spool, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    digest = hashlib.sha256()
    loop = asyncio.get_running_loop()

    def write(pieces: list[bytes]) -> int:
        for piece in pieces:
            view = memoryview(piece)
            while view:
                view = view[os.write(fd, view) :]
            digest.update(piece)
        return sum(map(len, pieces))

    frontier = arrived = 0
    waiting: list[bytes] = []
    waiting_bytes = 0
    writing: asyncio.Future[int] | None = None
    try:
        async for chunk in chunks:
            arrived += len(chunk)
            if arrived > limit_bytes:
                raise ArchiveTooLarge(f"the archive is larger than limits.archive ({limit_bytes} bytes)")
            waiting.append(chunk)
            waiting_bytes += len(chunk)
            if writing is not None and (writing.done() or waiting_bytes >= _PIECE_BYTES):
                frontier += await writing
                writing = None
                on_frontier(frontier)
            if writing is None:
                writing = loop.run_in_executor(None, write, waiting)
                waiting, waiting_bytes = [], 0
        if writing is not None:
            frontier += await writing
            writing = None
        frontier += await loop.run_in_executor(None, write, waiting)
        on_frontier(frontier)
    finally:
        if writing is not None and not writing.done():
            await asyncio.wait({writing})
        os.close(fd)
    if total_bytes is not None and frontier != total_bytes:
        raise UpstreamUnavailable(f"the origin announced {total_bytes} bytes and sent {frontier}")
    return Received(frontier, digest.hexdigest())

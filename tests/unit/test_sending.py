"""A file on its way to a client: over real connections."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hubd.publishing.sending import send_file

MEGABYTE = 1 << 20


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter, asyncio.WriteTransport]]:
    """A client, and the server's end of its connection."""
    accepted: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
    server = await asyncio.start_server(lambda _, writer: accepted.put(writer), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), limit=MEGABYTE)
    theirs = await accepted.get()
    try:
        yield reader, writer, theirs.transport
    finally:
        for end in (writer, theirs):
            end.transport.abort()
        server.close()


async def test_a_part_arrives_whole_and_the_connection_goes_on(tmp_path: Path) -> None:
    data = os.urandom(20 * MEGABYTE)
    (tmp_path / "file").write_bytes(data)
    async with connected() as (reader, _, transport):
        with (tmp_path / "file").open("rb", buffering=0) as file:
            sending = asyncio.create_task(send_file(transport, file, 5, len(data) - 5))
            assert await reader.readexactly(len(data) - 10) == data[5:-5]
            await sending
        transport.write(b"next")
        assert await reader.readexactly(4) == b"next"


async def test_a_file_that_is_cut_short_ends_the_connection(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(1000))
    async with connected() as (_, _, transport):
        with (tmp_path / "file").open("rb", buffering=0) as file, pytest.raises(ConnectionError, match="cut short"):
            await send_file(transport, file, 0, 2000)
        assert transport.is_closing()


async def test_a_client_that_takes_nothing_is_not_waited_for(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb+", buffering=0) as file:
        file.truncate(1000 * MEGABYTE)
        async with connected() as (_, _, transport):
            with pytest.raises(ConnectionError, match="next to nothing"):
                await send_file(transport, file, 0, 1000 * MEGABYTE, look_seconds=0.2)
            assert transport.is_closing()


@pytest.mark.parametrize("leaves", ["before", "meanwhile"])
async def test_a_client_that_leaves_is_a_connection_error(leaves: str, tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb+", buffering=0) as file:
        file.truncate(1000 * MEGABYTE)
        async with connected() as (reader, writer, transport):
            if leaves == "before":
                transport.close()
            sending = asyncio.create_task(send_file(transport, file, 0, 1000 * MEGABYTE))
            if leaves == "meanwhile":
                await reader.readexactly(100)
                writer.transport.abort()
            with pytest.raises(ConnectionError):
                await sending

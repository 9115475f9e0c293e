"""A connection whose client does not do its part, on a real socket with a short patience."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from hubd.api.connection import Patience
from hubd.api.listening import ListeningSocket
from hubd.api.server import ApiServer
from hubd.config import Place

LARGE = b"x" * (4 << 20)  # more than the kernel takes from whoever writes to a client that does not read
SHORT = Patience(unread_seconds=0.2, idle_seconds=0.4)
PATIENT = Patience(unread_seconds=30, idle_seconds=30)


def taken_bytes() -> int:
    """How much the kernel takes at once for a client that does not read."""
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        return one.send(LARGE)


@asynccontextmanager
async def served(path: Path, patience: Patience) -> AsyncIterator[tuple[ApiServer, list[str]]]:
    """A server of a large answer, and the requests that it has begun to serve."""
    begun: list[str] = []

    async def large(request: web.Request) -> web.Response:
        begun.append(request.path)
        return web.Response(body=LARGE)

    async def little(request: web.Request) -> web.Response:
        begun.append(request.path)
        return web.Response(body=b"x" * (taken_bytes() + 10_000))

    async def lines(request: web.Request) -> web.StreamResponse:
        begun.append(request.path)
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(1000):
            await response.write(b"x" * 10_000)
        return response

    async def broken(request: web.Request) -> web.Response:
        raise AssertionError("a bug")

    app = web.Application()
    app.router.add_get("/large", large)
    app.router.add_get("/little", little)
    app.router.add_get("/lines", lines)
    app.router.add_get("/broken", broken)
    listening = ListeningSocket.at(Place(cache=str(path / "cache"), socket=str(path / "s"), user=True), str(path))
    server = ApiServer(app, listening, max_connections=8, patience=patience)
    await server.start()
    try:
        yield server, begun
    finally:
        await server.stop()
        listening.close()


async def connected(path: Path, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client that reads next to nothing by itself."""
    reader, writer = await asyncio.open_unix_connection(str(path / "s"), limit=1)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(data)
    return reader, writer


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: hubd\r\n\r\n".encode()


@pytest.mark.parametrize("path", ["/large", "/little", "/lines"])
async def test_who_does_not_read_loses_the_connection(tmp_path: Path, path: str) -> None:
    async with served(tmp_path, SHORT) as (server, begun):
        _, writer = await connected(tmp_path, get(path))
        await until(lambda: begun)
        await until(lambda: not server.connections())
        writer.close()


async def test_who_does_not_read_loses_it_even_when_the_daemon_is_about_to_close_it(tmp_path: Path) -> None:
    async with served(tmp_path, SHORT) as (server, begun):
        _, writer = await connected(tmp_path, get("/large").replace(b"Host", b"Connection: close\r\nHost"))
        await until(lambda: begun)
        await until(lambda: not server.connections())
        writer.close()


async def test_who_never_finishes_a_request_loses_the_connection(tmp_path: Path) -> None:
    async with served(tmp_path, SHORT) as (server, _), asyncio.timeout(10):
        _, writer = await connected(tmp_path, b"GET /large HTTP/1.1\r\nHost: hubd\r\nA: ")
        await until(server.connections)
        while server.connections():  # a byte now and then buys no time
            writer.write(b"a")
            await asyncio.sleep(0.02)
        writer.close()


async def test_who_reads_slowly_gets_all_of_it(tmp_path: Path) -> None:
    async with served(tmp_path, Patience(unread_seconds=5, idle_seconds=5)), asyncio.timeout(20):
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"), limit=1 << 16)
        writer.write(get("/large"))
        await reader.readuntil(b"\r\n\r\n")
        left = len(LARGE)
        while left:
            left -= len(await reader.read(100_000))
            await asyncio.sleep(0.001)
        writer.close()


async def test_what_comes_together_waits_until_what_was_answered_is_read(tmp_path: Path) -> None:
    async with served(tmp_path, PATIENT) as (_, begun), asyncio.timeout(20):
        reader, writer = await connected(tmp_path, get("/large") * 20)
        await until(lambda: begun)
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(begun) == 1
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        while len(begun) < 20:
            await reader.read(1 << 20)
        writer.close()


async def test_a_bug_is_told_as_internal_without_its_insides(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with served(tmp_path, PATIENT), asyncio.timeout(10):
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
        writer.write(get("/broken"))
        said = await reader.read()
        assert b" 500 " in said
        assert b'"code": "internal"' in said
        assert b"a bug" not in said
        assert "a bug" in caplog.text
        writer.close()

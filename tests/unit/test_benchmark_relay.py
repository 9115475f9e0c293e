"""The long way to an origin."""

from __future__ import annotations

import asyncio
import os
import time

from benchmarks import relay
from benchmarks.relay import Link, Relay

ROUND_TRIP_SECONDS = 0.05
FAST = 1e9


def test_a_link_carries_one_piece_after_the_other() -> None:
    link = Link(bytes_per_second=1000.0)
    now = 100.0
    first = link.carried_at(now, 500)
    assert link.carried_at(now, 500) == first + 0.5
    assert first == now + 0.5 - relay._LATENESS_SECONDS
    # A link that was idle has saved nothing up.
    assert link.carried_at(now + 60.0, 500) == now + 60.0 + 0.5 - relay._LATENESS_SECONDS


async def test_what_is_relayed_is_whole_and_takes_its_time() -> None:
    sent = os.urandom(600_000)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"GET\n"
        writer.write(sent)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as origin:
        port = origin.sockets[0].getsockname()[1]
        way = Relay(port, ROUND_TRIP_SECONDS, 2_000_000.0, Link(FAST))
        async with await asyncio.start_server(way.serve, "127.0.0.1", 0) as server:
            begun = time.monotonic()
            reader, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
            writer.write(b"GET\n")
            received = await reader.readexactly(len(sent))
            seconds = time.monotonic() - begun
            assert await reader.read() == b""
            writer.close()
    assert received == sent
    # TCP's handshake, a round trip for the request, and 600 KB at 2 MB/s.
    assert seconds >= 2 * ROUND_TRIP_SECONDS + 0.3 - 2 * relay._LATENESS_SECONDS

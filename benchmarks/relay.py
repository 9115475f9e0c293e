"""A long way to an origin, on one machine: a relay that delays what it carries and lets only so much through.

    relay.py PORT ROUND_TRIP_SECONDS BYTES_PER_SECOND_OF_A_CONNECTION BYTES_PER_SECOND_OF_ALL

Prints the port on 127.0.0.1 that it listens on, and ends with its stdin. A connection's first bytes wait a round trip
longer, as they would for TCP's handshake. Slow start and loss are not imitated, which favours whoever opens many
connections less than the real thing would.

Law: bytes come whole, in order, no earlier than half a round trip after they were sent, and no faster than both limits.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Sequence

PIECE_BYTES = 64 << 10
_MOST_PIECES_ON_THE_WAY = 64
# How late a timer may be without the link losing what it could have carried meanwhile.
_LATENESS_SECONDS = 0.005


class Link:
    """A wire that carries one piece after the other."""

    def __init__(self, bytes_per_second: float) -> None:
        self._bytes_per_second = bytes_per_second
        self._free_at = 0.0

    def carried_at(self, now: float, size_bytes: int) -> float:
        """When a piece that is sent now is through, after all that were sent before."""
        self._free_at = max(self._free_at, now - _LATENESS_SECONDS) + size_bytes / self._bytes_per_second
        return self._free_at


class Relay:
    """Carries connections to a port of this machine."""

    def __init__(self, port: int, round_trip_seconds: float, bytes_per_second: float, shared: Link) -> None:
        self._port = port
        self._round_trip_seconds = round_trip_seconds
        self._bytes_per_second = bytes_per_second
        self._shared = shared

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until either side closes it."""
        answers, requests = await asyncio.open_connection("127.0.0.1", self._port, limit=2 * PIECE_BYTES)
        half = self._round_trip_seconds / 2
        directions = {
            asyncio.create_task(_carry(reader, requests, half, [], first_seconds=self._round_trip_seconds)),
            asyncio.create_task(_carry(answers, writer, half, [Link(self._bytes_per_second), self._shared])),
        }
        try:
            # Clients of HTTP close both directions at once.
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for direction in directions:
                direction.cancel()
            await asyncio.gather(*directions, return_exceptions=True)
            for end in (requests, writer):
                end.close()


async def _carry(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    delay_seconds: float,
    links: Sequence[Link],
    first_seconds: float = 0.0,
) -> None:
    """One direction, until its end has arrived."""
    way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_MOST_PIECES_ON_THE_WAY)
    async with asyncio.TaskGroup() as both:
        both.create_task(_arrive(way, writer))
        way_seconds = delay_seconds + first_seconds
        while True:
            piece = await reader.read(PIECE_BYTES)
            carried_at = time.monotonic()
            for link in links:
                carried_at = link.carried_at(time.monotonic(), len(piece))
                await _until(carried_at)
            # Later ones cannot overtake: the queue is in order, and each waits for its own time only after the last.
            await way.put((carried_at + way_seconds, piece))
            if not piece:
                return
            way_seconds = delay_seconds


async def _arrive(way: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
    while True:
        arrives_at, piece = await way.get()
        await _until(arrives_at)
        if not piece:
            return
        writer.write(piece)
        await writer.drain()


async def _until(moment: float) -> None:
    if (seconds := moment - time.monotonic()) > 0:
        await asyncio.sleep(seconds)


async def _main(port: int, round_trip_seconds: float, of_a_connection: float, of_all: float) -> None:
    relay = Relay(port, round_trip_seconds, of_a_connection, Link(of_all))
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0, limit=2 * PIECE_BYTES)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main(int(sys.argv[1]), *map(float, sys.argv[2:5])))

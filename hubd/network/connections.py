"""How many connections there are to each host, and to all together, and who may have one.

Law: every fetch has one before any has several. It waits in line for its first; a further one is never waited for, and
is wanted back while another fetch waits for its first, or would have more and has fewer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from hubd.network.waiting_line import User, WaitingLine, nobody

# So long a fetch that was refused a further connection counts as one that would have it.
_HUNGRY_SECONDS = 15.0


@dataclass(eq=False)
class _Share:
    """What one fetch has of a host's places."""

    host: str
    places: int = 0
    hungry_until: float = 0.0


class Connections:
    """Places for `per_host` connections to each host, and for `total` to all."""

    def __init__(self, per_host: int, total: int) -> None:
        self._per_host = per_host
        self._total = total
        self._shares: list[_Share] = []  # of those that have a place
        self._waiting: list[_Share] = []  # of those in line
        self._line = WaitingLine()

    @asynccontextmanager
    async def first(
        self, host: str, urgent: Callable[[], bool], users: Callable[[], Collection[User]] = nobody
    ) -> AsyncIterator[Place]:
        """Waits for the place of a fetch's first connection to the host, and has it for the block. Of those who wait,
        the `urgent` ones go first, and among equals the `users` that they are for take turns.
        """
        share = _Share(host)
        place = Place(self, share)

        def admit() -> bool:
            if self._is_full(host):
                return False
            self._take(share)
            return True

        self._waiting.append(share)
        try:
            await self._line.wait(urgent, admit, place.release, users)
        finally:
            if share in self._waiting:
                self._waiting.remove(share)
        try:
            yield place
        finally:
            place.release()

    def _take(self, share: _Share) -> None:
        if not share.places:
            self._shares.append(share)
            self._waiting.remove(share)
        share.places += 1

    def _give_back(self, share: _Share) -> None:
        share.places -= 1
        if not share.places:
            self._shares.remove(share)
        self._line.advance()

    def _extra(self, share: _Share) -> Place | None:
        now = asyncio.get_running_loop().time()
        if not share.places or self._is_full(share.host) or self._is_hungry_beside(share, fewer_by=1):
            share.hungry_until = now + _HUNGRY_SECONDS
            return None
        share.hungry_until = 0.0
        self._take(share)
        return Place(self, share)

    def _is_wanted(self, share: _Share) -> bool:
        if share.places <= 1:
            return False
        if any(waiting.host == share.host for waiting in self._waiting):
            return share.places == max(rival.places for rival in self._at(share.host))
        if self._waiting and self._is_full():
            return share.places == max(rival.places for rival in self._shares)
        return self._is_full(share.host) and self._is_hungry_beside(share, fewer_by=2)

    def _is_hungry_beside(self, share: _Share, *, fewer_by: int) -> bool:
        """Whether another fetch would have more places at the host, and has so many fewer."""
        now, most = asyncio.get_running_loop().time(), share.places - fewer_by
        return any(
            rival.places <= most and now < rival.hungry_until for rival in self._at(share.host) if rival is not share
        )

    def _at(self, host: str) -> list[_Share]:
        return [share for share in self._shares if share.host == host]

    def _is_full(self, host: str | None = None) -> bool:
        """Whether no place is free, at all or at the host."""
        if sum(share.places for share in self._shares) >= self._total:
            return True
        return host is not None and sum(share.places for share in self._at(host)) >= self._per_host


class Place:
    """The right to one connection to a host, for one fetch."""

    def __init__(self, connections: Connections, share: _Share) -> None:
        self._connections = connections
        self._share = share
        self._is_given_back = False

    @property
    def is_wanted(self) -> bool:
        """Whether the fetch should give back one of its places as soon as it can. Never its last."""
        return not self._is_given_back and self._connections._is_wanted(self._share)

    def extra(self) -> Place | None:
        """A further place at the host for the same fetch, to be released by whoever took it; None when there is none
        for it now.
        """
        return self._connections._extra(self._share)

    def release(self) -> None:
        """Gives it back; a second time does nothing."""
        if not self._is_given_back:
            self._is_given_back = True
            self._connections._give_back(self._share)


class Claim:
    """A fetch's first place, wherever its redirects lead. An async context manager, which gives it back."""

    def __init__(
        self, connections: Connections, urgent: Callable[[], bool], users: Callable[[], Collection[User]] = nobody
    ) -> None:
        self._connections = connections
        self._urgent = urgent
        self._users = users
        self._place: tuple[str, Place] | None = None
        self._held = AsyncExitStack()

    async def move(self, host: str) -> None:
        """Waits for a place at the host, unless it has it; the one at another host is given back first."""
        if self._place is None or self._place[0] != host:
            self._place = None
            await self._held.aclose()
            first = self._connections.first(host, self._urgent, self._users)
            self._place = host, await self._held.enter_async_context(first)

    def extra(self) -> Place | None:
        """See `Place.extra`; None before the first."""
        return self._place[1].extra() if self._place is not None else None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._place = None
        await self._held.aclose()

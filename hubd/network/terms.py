"""What a transfer is told, and what it tells.

Law: a transfer knows nothing of fetches, caches and users; whatever it needs of them is a function that it is given.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from hubclient.contract.errors import ArchiveTooLarge, HubError, UpstreamUnavailable
from hubd.network.segments import Ranges


@dataclass(frozen=True)
class Received:
    """An archive that is whole in its spool. The digest is hex; of a directory there is none."""

    size_bytes: int
    digest: str


class Changed(UpstreamUnavailable):
    """What was received cannot be gone on with; from its first byte on, the archive can be asked for again."""


@dataclass(frozen=True)
class Terms:
    """What a transfer keeps to."""

    limit_bytes: int
    connections: int = 1
    min_rate: int = 0  # bytes per second, over a window of
    window_seconds: float = 60.0


async def _nothing(_: int) -> None:
    pass


async def _always() -> bool:
    return True


@dataclass(frozen=True)
class Hooks:
    """What happens around a transfer. All are called in the event loop.

    `on_written`: of the archive, this is in the spool. `make_room`: awaited before the spool grows to so many bytes; it
    may raise. `pace`: awaited with the size of each piece that came. `is_starving`:
    whether the unpacker waits for bytes. `before_holes`: awaited before bytes are written that leave a hole before
    them; False: they must not be. `on_pause`: all failed, the last with this error, and so many seconds later it goes
    on.
    """

    on_written: Callable[[Ranges], None]
    make_room: Callable[[int], Awaitable[None]] = _nothing
    pace: Callable[[int], Awaitable[object]] = _nothing
    is_starving: Callable[[], bool] = lambda: False
    before_holes: Callable[[], Awaitable[bool]] = _always
    on_pause: Callable[[HubError, float], None] = lambda error, seconds: None


def check_announced(total_bytes: int | None, limit_bytes: int) -> None:
    """Raises `ArchiveTooLarge` for an archive that is announced to be larger than the limit."""
    if total_bytes is not None and total_bytes > limit_bytes:
        raise ArchiveTooLarge(f"the archive has {total_bytes} bytes, more than limits.archive ({limit_bytes})")

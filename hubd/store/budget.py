"""How much the cache may take, and what goes first when it must take less. Pure.

Law: what is pinned, leased or in a flight is never chosen; of the rest, what was used least recently goes first, and
downloads that were broken off go before any module.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Limits:
    """What the settings allow. `high_water` and `low_water` are shares of the capacity, from 0 to 1."""

    max_size_bytes: int | None = None  # of the cache; None: as much as the disk has
    min_free_bytes: int = 0  # of the file system, for others
    high_water: float = 0.95
    low_water: float = 0.85


class Candidate(NamedTuple):
    """Something that could go: a tree, by its digest, or a broken-off download, by its name in ``staging/``."""

    name: str
    size_bytes: int  # on disk
    last_used: float  # unix seconds
    is_partial: bool = False
    pinned: bool = False


def capacity_bytes(limits: Limits, *, on_disk_bytes: int, free_bytes: int) -> int:
    """How much the cache may take in all, when `on_disk_bytes` of it are there and the file system has `free_bytes`."""
    by_disk = max(0, on_disk_bytes + free_bytes - limits.min_free_bytes)
    return by_disk if limits.max_size_bytes is None else min(limits.max_size_bytes, by_disk)


def excess_bytes(limits: Limits, *, used_bytes: int, capacity: int) -> int:
    """How much should go ahead of need: down to the low water mark, once the high one is passed; else 0."""
    if used_bytes <= limits.high_water * capacity:
        return 0
    return used_bytes - int(limits.low_water * capacity)


def choose_victims(candidates: Iterable[Candidate], need_bytes: int) -> list[Candidate]:
    """What goes, in this order, so that at least `need_bytes` come free; all that may go if that is not enough."""
    victims: list[Candidate] = []
    free_bytes = 0
    order = sorted(
        (candidate for candidate in candidates if not candidate.pinned),
        key=lambda candidate: (not candidate.is_partial, candidate.last_used, candidate.name),
    )
    for candidate in order:
        if free_bytes >= need_bytes:
            break
        victims.append(candidate)
        free_bytes += candidate.size_bytes
    return victims

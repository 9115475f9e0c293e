"""Which bytes of an archive are there, and who receives which of the others. Pure.

Law: every byte is received by one segment at a time, and what a segment leaves goes to the next one that asks, the
lowest first: what lies nearest to the unpacker's frontier is what it waits for.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

ENDLESS = 1 << 62  # the end of an archive whose size nobody knows
LEAST_BYTES = 1 << 20  # of a segment that is worth a request
_LEAST_SHARE_BYTES = 256 * 1024
_MOST_SECONDS = 1.0  # that a segment should take
_LARGEST_BYTES = 32 << 20
_TAIL_SECONDS = 1.0  # a segment that has less to go is not worth relieving
_SLOWER_THAN_USUAL = 2.0


class Ranges:
    """Ranges ``[start, end)`` of bytes, in order and apart."""

    def __init__(self, spans: Iterable[tuple[int, int]] = ()) -> None:
        self._spans: list[tuple[int, int]] = []
        for start, end in spans:
            self.add(start, end)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._spans)

    def __bool__(self) -> bool:
        return bool(self._spans)

    @property
    def size_bytes(self) -> int:
        return sum(end - start for start, end in self._spans)

    @property
    def frontier_bytes(self) -> int:
        """Up to where everything is there, from byte 0 on."""
        return self._spans[0][1] if self._spans and self._spans[0][0] == 0 else 0

    def add(self, start: int, end: int) -> None:
        """Overlapping and touching ranges become one."""
        if start >= end:
            return
        at = bisect_left(self._spans, (start, start))
        if at and self._spans[at - 1][1] >= start:
            at -= 1
        last = at
        while last < len(self._spans) and self._spans[last][0] <= end:
            start, end = min(start, self._spans[last][0]), max(end, self._spans[last][1])
            last += 1
        self._spans[at:last] = [(start, end)]

    def take(self, most_bytes: int) -> tuple[int, int] | None:
        """Removes the lowest bytes, at most so many of one range."""
        if not self._spans:
            return None
        start, end = self._spans[0]
        until = min(end, start + most_bytes)
        self._spans[0:1] = [(until, end)] if until < end else []
        return start, until

    def take_at(self, start: int, most_bytes: int) -> int:
        """Removes at most so many bytes from `start` on, if a range begins there; how many."""
        for at, (begin, end) in enumerate(self._spans):
            if begin == start:
                until = min(end, start + most_bytes)
                self._spans[at : at + 1] = [(until, end)] if until < end else []
                return until - start
        return 0


@dataclass(eq=False)
class Segment:
    """Bytes ``[at, end)`` that one connection is to receive; it has received ``[start, at)``."""

    start: int
    end: int
    begun_at: float  # of a monotonic clock
    at: int = 0

    def __post_init__(self) -> None:
        self.at = self.start

    @property
    def left_bytes(self) -> int:
        return self.end - self.at

    def rate(self, now: float) -> float:
        """Bytes per second, since it began."""
        return (self.at - self.start) / max(now - self.begun_at, 0.001)


class Plan:
    """The segments of one archive from byte `start` on."""

    def __init__(self, start: int, total_bytes: int | None) -> None:
        self._untaken = Ranges([(start, total_bytes if total_bytes is not None else ENDLESS)])
        self.running: list[Segment] = []

    @property
    def is_endless(self) -> bool:
        """Whether nobody knows the size of the archive."""
        return self.left_bytes >= ENDLESS >> 1

    @property
    def left_bytes(self) -> int:
        """What has not been received."""
        return self._untaken.size_bytes + sum(segment.left_bytes for segment in self.running)

    def take(self, most_bytes: int, now: float) -> Segment | None:
        """The lowest bytes that nobody receives, at most so many; None when all are taken."""
        span = self._untaken.take(most_bytes)
        if span is None:
            return None
        segment = Segment(*span, begun_at=now)
        self.running.append(segment)
        return segment

    def leave(self, segment: Segment) -> None:
        """Nobody receives what is left of the segment."""
        if segment in self.running:
            self.running.remove(segment)
            self._untaken.add(segment.at, segment.end)

    def bound(self, segment: Segment, most_bytes: int) -> None:
        """Leaves the segment at most so many bytes, and the rest of it to others."""
        end = min(segment.end, segment.at + most_bytes)
        self._untaken.add(end, segment.end)
        segment.end = end

    def extend(self, segment: Segment, most_bytes: int) -> bool:
        """Gives the segment the bytes that follow it, if nobody receives them: its answer goes on with them."""
        more_bytes = self._untaken.take_at(segment.end, most_bytes)
        segment.end += more_bytes
        return more_bytes > 0

    def relieve(self, usual_rate: float, now: float) -> tuple[Segment, Segment | None] | None:
        """When all is taken: the segment that keeps everybody waiting, and the part that it loses to whoever asks.

        A slow one shares what is left with the faster; of one that hardly moves all is taken, and then there is no
        victim to go on. None when nobody is slow enough to gain by it. Gives (the new segment, its victim if it ends).
        """
        # One that has only just begun has shown nothing yet.
        judged = [segment for segment in self.running if now - segment.begun_at >= _TAIL_SECONDS]
        if self._untaken or not judged or usual_rate <= 0:
            return None

        def left_seconds(segment: Segment) -> float:
            return segment.left_bytes / max(segment.rate(now), 1.0)

        victim = max(judged, key=left_seconds)
        usual_seconds = victim.left_bytes / usual_rate
        if victim.left_bytes <= 0 or left_seconds(victim) < max(_TAIL_SECONDS, _SLOWER_THAN_USUAL * usual_seconds):
            return None
        rate = victim.rate(now)
        kept_bytes = int(victim.left_bytes * rate / (rate + usual_rate))
        ends = kept_bytes < _LEAST_SHARE_BYTES
        self.bound(victim, 0 if ends else kept_bytes)
        if ends:
            self.running.remove(victim)
        segment = self.take(ENDLESS, now)
        assert segment is not None
        return segment, victim if ends else None


def segment_bytes(left_bytes: int, connections: int, connection_rate: float) -> int:
    """How large the next segment is to be: smaller ones toward the end, so that all connections end together; and
    none that takes long, so that the frontier moves on."""
    if connections <= 1:
        return ENDLESS
    most_bytes = min(_LARGEST_BYTES, max(4 * LEAST_BYTES, int(connection_rate * _MOST_SECONDS)))
    return max(LEAST_BYTES, min(most_bytes, left_bytes // (2 * connections)))

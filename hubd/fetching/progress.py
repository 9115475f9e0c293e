"""How far a fetch is, for whoever wants to look, and how long it was at what.

Law: a fetch is in one phase at a time, and the seconds of its phases add up to its age.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, get_args

from hubclient.contract.errors import HubError
from hubd.network.sources import TierName
from hubd.unpacking.supervisor import Unpacker

_log = logging.getLogger(__name__)

State = Literal["queued", "waiting", "connecting", "transferring", "unpacking", "publishing"]
PHASES: tuple[State, ...] = get_args(State)

_RATE_WINDOW_SECONDS = 5.0


@dataclass
class Progress:
    """Written by the fetch alone; watchers read it whenever they like."""

    handle: str
    key: str
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    state: State = "queued"
    received_bytes: int = 0
    resumed_bytes: int = 0  # of these, what an earlier fetch had received
    total_bytes: int | None = None
    unpacker: Unpacker | None = None
    trouble: str | None = None  # why the last try failed, until the next brings something
    host: str | None = None  # that answered last, at the end of all redirects
    tier: TierName | None = None  # of that host
    tries: int = 1
    transferred_bytes: int = 0  # by all of them
    connections: int = 0  # at a time, the most of them
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    _samples: deque[tuple[float, int]] = field(default_factory=deque)
    _seconds: dict[State, float] = field(default_factory=dict)  # of the phases before this one
    _entered_at: float = field(default_factory=lambda: time.monotonic())
    _ended_at: float | None = None

    def enter(self, state: State) -> None:
        """From now on it is at this; a phase may come again, as that of connecting does with each try."""
        now = time.monotonic()
        self._seconds[self.state] = self._seconds.get(self.state, 0.0) + now - self._entered_at
        self.state, self._entered_at = state, now

    def waits(self, received_bytes: int, total_bytes: int | None) -> None:
        """Another machine fetches it, and is so far."""
        if self.state != "waiting":
            self.enter("waiting")
        self.received_bytes, self.total_bytes = received_bytes, total_bytes

    def end(self) -> None:
        """The fetch is over: its last phase lasts no longer."""
        self._ended_at = time.monotonic()

    @property
    def seconds_by_phase(self) -> dict[str, float]:
        """Of those that it was in, in their order. Unpacking goes on beside the transfer: its phase is what it takes
        after that."""
        now = self._ended_at if self._ended_at is not None else time.monotonic()
        current = {self.state: self._seconds.get(self.state, 0.0) + now - self._entered_at}
        spent = {**self._seconds, **current}
        return {phase: spent[phase] for phase in PHASES if phase in spent}

    def on_received(self, received_bytes: int) -> None:
        """So many bytes of the archive are in the spool."""
        if received_bytes > self.received_bytes:
            self.trouble = None
        self.received_bytes = received_bytes
        now = time.monotonic()
        self._samples.append((now, received_bytes))
        while now - self._samples[0][0] > _RATE_WINDOW_SECONDS:
            self._samples.popleft()

    def on_pause(self, error: HubError, seconds: float) -> None:
        """A try failed, and the next comes after so many seconds."""
        self.trouble = str(error)
        self.tries += 1
        _log.info("%s: tried again in %.1f s, at byte %d: %s", self.loggable, seconds, self.received_bytes, error)

    @property
    def unpacked_bytes(self) -> int:
        return self.unpacker.unpacked_bytes if self.unpacker is not None else 0

    @property
    def rate_bytes_per_second(self) -> float:
        """Over the last seconds, up to this moment: the rate of a stalled transfer falls."""
        if not self._samples:
            return 0.0
        (since, before), (_, last) = self._samples[0], self._samples[-1]
        return (last - before) / max(time.monotonic() - since, 0.001)

    @property
    def eta_seconds(self) -> float | None:
        rate = self.rate_bytes_per_second
        return (self.total_bytes - self.received_bytes) / rate if self.total_bytes is not None and rate > 0 else None

    @property
    def loggable(self) -> str:
        """The handle for the log: without its query, which may hold a secret, and without what moves a cursor."""
        return self.handle.partition("?")[0].encode("ascii", "backslashreplace").decode()

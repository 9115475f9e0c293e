"""What happened in a soak: events, what the cleaner touched, and what broke a promise.

Law: a touch is on record before it begins, so whatever anybody sees of it can be excused; nothing else excuses damage.
Times are unix seconds of one machine. Thread-safe.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_REMEMBERED_EVENTS = 4096
_SHOWN_EVENTS = 25
_TOLD_VIOLATIONS = 50


@dataclass
class Touch:
    """What the cleaner did to a tree (`digest`, and the inode of its directory) or to a record (`key`)."""

    what: str
    digest: str | None
    inode: int | None
    key: str | None
    begun: float
    ended: float = math.inf


@dataclass
class Hold:
    """A lease that a client process had."""

    digest: str
    begun: float
    ended: float = math.inf


@dataclass(frozen=True)
class Violation:
    """A broken promise, with the last events before it."""

    text: str
    events: tuple[str, ...]


@dataclass
class Journal:
    """All that the report tells of, and all that an invariant needs to know of the past."""

    seed: int
    log: Path | None = None  # every event, one a line of JSON
    began: float = field(default_factory=time.time)
    counts: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)  # path at the origin: why it may have been asked again
    requests: list[tuple[str, int, int]] = field(default_factory=list)  # path, how often it was asked, reasons to
    touches: list[Touch] = field(default_factory=list)
    holds: list[Hold] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    _events: deque[str] = field(default_factory=lambda: deque(maxlen=_REMEMBERED_EVENTS))
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def event(self, actor: str, what: str, **facts: object) -> None:
        line = f"{time.time() - self.began:8.3f} {actor}: {what}"
        line += "".join(f" {name}={_short(value)}" for name, value in facts.items())
        with self._lock:
            self._events.append(line)
            if self.log is not None:
                with self.log.open("a") as file:
                    file.write(json.dumps({"at": time.time(), "actor": actor, "what": what, **facts}) + "\n")

    def count(self, what: str, number: int = 1) -> None:
        with self._lock:
            self.counts[what] += number

    def refused(self, actor: str, code: str, text: str, path: str | None = None) -> None:
        """An error that somebody was answered. `path`: whose handle it was; asking for it again is no wonder."""
        self.event(actor, "refused", code=code, text=text)
        with self._lock:
            self.refusals[code] += 1
            if path is not None:
                self.reasons[path] += 1
        if code == "internal":
            self.violation(f"{actor} was answered an internal error: {text}")

    def reason(self, path: str, number: int = 1) -> None:
        with self._lock:
            self.reasons[path] += number

    def violation(self, text: str) -> None:
        with self._lock:
            if len(self.violations) < _TOLD_VIOLATIONS and all(known.text != text for known in self.violations):
                self.violations.append(Violation(text, tuple(self._events)[-_SHOWN_EVENTS:]))

    @contextmanager
    def touching(
        self, what: str, *, digest: str | None = None, inode: int | None = None, key: str | None = None
    ) -> Iterator[None]:
        """Inside, the cleaner does it."""
        touch = Touch(what, digest, inode, key, time.time())
        with self._lock:
            self.touches.append(touch)
        self.event("cleaner", what, digest=digest, key=key)
        self.count(f"cleaner: {' '.join(what.split()[:2])}")
        try:
            yield
        finally:
            touch.ended = time.time()

    def touched(self, digest: str, since: float, until: float = math.inf) -> bool:
        """Whether the cleaner was at any tree of that digest in this time."""
        with self._lock:
            return any(t.digest == digest and t.ended >= since and t.begun <= until for t in self.touches)

    def touched_tree(self, inode: int, since: float) -> bool:
        """Whether the cleaner was at this very tree after it was published."""
        with self._lock:
            return any(touch.inode == inode and touch.ended >= since for touch in self.touches)

    def hold(self, digest: str, begun: float) -> Hold:
        hold = Hold(digest, begun)
        with self._lock:
            self.holds.append(hold)
        return hold

    def held(self, digest: str, since: float) -> bool:
        """Whether a client held a tree of that digest at any time since."""
        with self._lock:
            return any(hold.digest == digest and hold.ended >= since for hold in self.holds)


def _short(value: object) -> str:
    text = str(value)
    return text[:12] if len(text) == 64 and text.isalnum() else text[:200]

"""What is to be done for the modules of a prefetch file, and what became of it.

Law: it is in memory alone. After a restart each module is looked at once more, and its record says how old it is.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from hubclient.contract.errors import HubError
from hubclient.contract.handles import is_immutable
from hubclient.contract.prefetch_file import PrefetchFile, Wanted
from hubd.prefetching.files import ReadFile
from hubd.prefetching.schedule import is_open, opens_at, refresh_at, retry_seconds


@dataclass(eq=False)
class Duty:
    """One module of one file."""

    wanted: Wanted
    is_looked_for: bool = False
    is_done: bool = False  # it is in the cache, as it is wanted
    is_running: bool = False
    said_at: float = 0.0  # when its origin last said that it is still the one; unix seconds
    failures: int = 0  # in a row
    failure: str | None = None  # why the last try failed
    retry_at: float = 0.0  # by the monotonic clock
    can_change: bool = field(init=False)

    def __post_init__(self) -> None:
        self.can_change = self.wanted.digest is None and not is_immutable(self.wanted.handle)

    def looked(self, said_at: float | None) -> None:
        """It was there, as its origin said at that time; None: it was not."""
        self.is_looked_for, self.is_done = True, said_at is not None
        self.said_at = said_at or 0.0

    def fetched(self, now: float) -> None:
        """Its origin has sent or confirmed it."""
        self.is_done, self.said_at = True, now
        self.forgive()

    def failed(self, error: HubError, monotonic: float) -> None:
        """It is to be tried again after a while; a copy that was there is there still."""
        self.failures += 1
        self.failure = f"{self.wanted.handle.partition('?')[0]}: {error} [{error.code}]"
        self.retry_at = monotonic + retry_seconds(self.failures, retryable=error.retryable)

    def forgive(self) -> None:
        """It need not wait for its next try."""
        self.failures, self.failure, self.retry_at = 0, None, 0.0

    def begin_anew(self) -> None:
        """Something has changed: it is to be looked for once more."""
        self.is_looked_for = False
        self.forgive()

    def due_at(self, plan: PrefetchFile, now: float, monotonic: float) -> float:
        """When it is to be fetched, in unix seconds, but for the window; infinity for never."""
        if self.failures:
            return now + max(0.0, self.retry_at - monotonic)
        if not self.is_done:
            return now
        due = refresh_at(self.said_at, plan.refresh_seconds, now) if self.can_change else None
        return math.inf if due is None else due

    def is_due(self, plan: PrefetchFile, now: float, monotonic: float) -> bool:
        """Whether to begin: a fetch in the window alone, a look at any time."""
        if self.is_running:
            return False
        return not self.is_looked_for or (self.due_at(plan, now, monotonic) <= now and is_open(plan.window, now))


class FileStatus(NamedTuple):
    """A file, for who looks. `next_run_at` is in unix seconds; None: never."""

    name: str
    state: Literal["ok", "broken", "waiting"]
    problem: str | None  # of the file
    failure: str | None  # of one of its modules
    modules: int
    done: int
    failed: int
    pinned: int
    next_run_at: float | None


def status_of(file: ReadFile, duties: Collection[Duty], now: float, monotonic: float) -> FileStatus:
    """How far a file is: ``ok`` when all that it wants is there, ``broken`` when it is not understood."""
    done = sum(duty.is_done for duty in duties)
    next_run_at = None
    if file.plan is not None:
        plan = file.plan
        due = min((duty.due_at(plan, now, monotonic) for duty in duties if not duty.is_running), default=math.inf)
        next_run_at = opens_at(plan.window, max(due, now)) if due < math.inf else None
    return FileStatus(
        name=file.name,
        state="broken" if file.problem is not None else "ok" if done == len(duties) else "waiting",
        problem=file.problem,
        failure=next((duty.failure for duty in duties if duty.failure is not None), None),
        modules=len(duties),
        done=done,
        failed=sum(duty.failures > 0 for duty in duties),
        pinned=len(duties) if file.plan is not None and file.plan.pin else 0,
        next_run_at=next_run_at,
    )

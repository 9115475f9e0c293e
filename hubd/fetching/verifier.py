"""Deep checks under way: several files at a time, behind everything else that the machine does.

Law: of a tree there is one check at a time, however many wait for it, and it ends with its verdict carried out: what
is damaged is withdrawn before anyone hears of it, and what was a suspect and is intact is served again.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

from hubclient.contract.errors import Internal, ShuttingDown
from hubd.fetching.flights import Flights
from hubd.fetching.threads import to_its_end
from hubd.store.deep_check import DeepCheck
from hubd.store.disk import from_os_error
from hubd.store.records import Records
from hubd.store.trees import Trees

_CHECKS_AT_ONCE = 4
_FILES_AT_ONCE = max(2, min(4, os.cpu_count() or 1))  # of each check
_NICENESS = 10
_ROUNDS = 3

GONE = ("module",)  # what is damaged of a tree that is not there


class Finding(NamedTuple):
    """What a deep check came to: the paths that are damaged, and the bytes that were read."""

    damage: tuple[str, ...]
    read_bytes: int


class Verifier:
    """Checks trees for whoever asks. `spawn` starts a task in the group that owns all work."""

    def __init__(
        self, trees: Trees, records: Records, spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
    ) -> None:
        self._trees = trees
        self._records = records
        self._threads = ThreadPoolExecutor(_CHECKS_AT_ONCE * _FILES_AT_ONCE, "verify", _be_nice)
        self._slots = asyncio.Semaphore(_CHECKS_AT_ONCE)
        self._flights: Flights[str, _Work, Finding] = Flights(spawn)

    async def check(self, digest: str, watch: Callable[[Callable[[], int]], None] | None = None) -> Finding:
        """The finding of a check that runs already, else of a new one. `watch` is given what tells the bytes read.

        Cancelled, it leaves; the last to leave ends the check. Raises `Internal`, `DiskFull`, `ShuttingDown`.
        """
        async with self._flights.board(digest, lambda: self._work(digest)) as (flight, _):
            if watch is not None:
                watch(lambda: flight.work.done_bytes)
            return await flight.outcome()

    def stop(self) -> None:
        """Ends every check; whoever waits gets `ShuttingDown`."""
        self._flights.close(ShuttingDown("hubd is shutting down; try again"))

    def close(self) -> None:
        """When no check runs any more."""
        self._threads.shutdown(wait=False)

    def _work(self, digest: str) -> _Work:
        return _Work(self._trees, self._records, self._threads, self._slots, digest)


@dataclass
class _Work:
    trees: Trees
    records: Records
    threads: Executor
    slots: asyncio.Semaphore
    digest: str
    under_way: DeepCheck | None = None

    @property
    def done_bytes(self) -> int:
        return self.under_way.done_bytes if self.under_way is not None else 0

    async def run(self) -> Finding:
        async with self.slots:
            for _ in range(_ROUNDS):
                if (finding := await self._round()) is not None:
                    return finding
        raise Internal("the tree was replaced again and again while it was checked")

    async def _round(self) -> Finding | None:
        """None when another tree took the name of the checked one meanwhile."""
        cancelled = threading.Event()
        checks: list[DeepCheck] = []
        errors: list[OSError] = []

        def begin() -> None:
            if (check := self.trees.check(self.digest, cancelled)) is not None:
                checks.append(check)

        def work() -> None:
            try:
                checks[0].work()
            except OSError as error:
                errors.append(error)
                cancelled.set()

        try:
            await to_its_end(self.threads, begin)
            if not checks:
                return Finding(GONE, 0)
            self.under_way = checks[0]
            async with asyncio.TaskGroup() as group:
                for _ in range(_FILES_AT_ONCE):
                    group.create_task(to_its_end(self.threads, work, cancelled.set))
            if errors:
                raise from_os_error(errors[0], "checking a module") from errors[0]
            return await to_its_end(self.threads, lambda: self._carry_out(checks[0]))
        finally:
            for check in checks:
                check.close()

    def _carry_out(self, check: DeepCheck) -> Finding | None:
        if not check.damage:
            return Finding((), check.done_bytes) if self.trees.acquit(self.digest, check) else None
        if not self.trees.condemn(self.digest, check):
            return None
        self.records.withdraw({self.digest})
        return Finding(check.damage, check.done_bytes)


def _be_nice() -> None:
    # For Linux a thread is a process of its own here: setpriority(2).
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)

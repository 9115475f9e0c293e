"""Keeps what the prefetch files say: their modules are fetched, renewed when they are due, and pinned if a file asks.

Law: the files are the truth. What they pin is known before anything can be evicted, and follows each of their changes.
Prefetches leave turns to clients, and no more of them are under way than may run.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress

from hubclient.contract.errors import HubError, Internal, ShuttingDown
from hubclient.contract.prefetch_file import PRIORITIES, PrefetchFile
from hubd.config import PREFETCH_DIR
from hubd.fetching.means import Means
from hubd.fetching.resolver import Resolver
from hubd.prefetching.changes import changes
from hubd.prefetching.duties import Duty, FileStatus, status_of
from hubd.prefetching.fetcher import Fetcher
from hubd.prefetching.files import Listing, ReadFile, read_directory
from hubd.prefetching.schedule import is_open

log = logging.getLogger(__name__)

_LOOK_SECONDS = 20.0  # what is due is found that late, whatever the clocks do meanwhile


class Keeper:
    """For the event loop; reads in threads. `look` once before anything is evicted, then `run`."""

    def __init__(
        self,
        means: Means,
        resolver: Resolver,
        follow: Callable[[str | None], AsyncGenerator[None]] = changes,
    ) -> None:
        self._means = means
        self._settings = means.settings
        self._fetcher = Fetcher(means, resolver)
        self._changes = follow
        self._listing = Listing()
        self._duties: dict[str, dict[str, Duty]] = {}  # by file, by key
        self._queue: deque[tuple[ReadFile, Duty]] = deque()
        self._running = 0
        self._woken = asyncio.Event()

    @property
    def problem(self) -> str | None:
        """What is wrong with the directory itself."""
        return self._listing.problem

    def status(self) -> list[FileStatus]:
        """All files, by name."""
        now, monotonic = time.time(), time.monotonic()
        return [
            status_of(file, self._duties[name].values(), now, monotonic) for name, file in self._listing.files.items()
        ]

    async def look(self) -> None:
        """Take in what the directory has now."""
        directory = self._means.settings.prefetch.dir
        listing = Listing()
        if directory is not None:
            asked_for = directory != PREFETCH_DIR
            listing = await asyncio.to_thread(read_directory, directory, self._listing, must_exist=asked_for)
        if listing != self._listing:
            self._take(listing)

    async def run(self) -> None:
        """Never ends by itself."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow())
            await self._means.room.scanned.wait()  # start-up comes first
            while True:
                self._woken.clear()
                try:
                    self._start(group)
                except Exception:
                    log.exception("no prefetch could be begun")
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_SECONDS):
                        await self._woken.wait()

    async def _follow(self) -> None:
        while True:
            directory = self._means.settings.prefetch.dir
            await self._look_again()  # at what has changed before anybody follows it
            async with aclosing(self._changes(directory)) as events:
                async for _ in events:
                    await self._look_again()
                    if self._means.settings.prefetch.dir != directory:
                        break

    async def _look_again(self) -> None:
        try:
            await self.look()
        except Exception:
            log.exception("the prefetch files could not be looked at")

    def _take(self, listing: Listing) -> None:
        before, self._listing = self._listing, listing
        if listing.problem is not None and listing.problem != before.problem:
            log.warning("prefetch files: %s", listing.problem)
        for name in before.files.keys() - listing.files.keys():
            del self._duties[name]
            log.info("prefetch file %s is gone, and what it pinned may go too", name)
        for name, file in listing.files.items():
            if before.files.get(name) is not file:
                self._duties[name] = self._duties_of(file)
                _tell(file, len(self._duties[name]))
        pins: defaultdict[str, list[str]] = defaultdict(list)
        for name, file in listing.files.items():
            for wanted in file.plan.modules if file.plan is not None and file.plan.pin else ():
                pins[wanted.key].append(name)
        self._means.evictor.pins.replace(pins)
        self._wake()

    def _duties_of(self, file: ReadFile) -> dict[str, Duty]:
        """A duty for each module; of those that the file had before, what is known stays."""
        before, duties = self._duties.get(file.name, {}), {}
        for wanted in file.plan.modules if file.plan is not None else ():
            known = before.get(wanted.key)
            duties[wanted.key] = known if known is not None and known.wanted == wanted else Duty(wanted)
            duties[wanted.key].begin_anew()
        return duties

    def _wake(self) -> None:
        """What is due is to be found anew."""
        self._queue.clear()
        self._woken.set()

    def _start(self, group: asyncio.TaskGroup) -> None:
        """Begin what is due, as much of it as may run."""
        if self._means.settings is not self._settings:  # what could not be had may be had by now
            self._settings = self._means.settings
            for duty in [duty for duties in self._duties.values() for duty in duties.values()]:
                duty.begin_anew()
        if not self._queue:
            self._queue.extend(self._due())
        while self._queue and self._running < self._means.settings.network.concurrent_fetches:
            file, duty = self._queue.popleft()
            if file.plan is not None and duty.is_due(file.plan, time.time(), time.monotonic()):
                duty.is_running = True
                self._running += 1
                group.create_task(self._do(duty, file.plan))

    def _due(self) -> list[tuple[ReadFile, Duty]]:
        """What is due, in the order in which it is begun."""
        now, monotonic = time.time(), time.monotonic()
        files = [(file, file.plan) for file in self._listing.files.values() if file.plan is not None]
        return [
            (file, duty)
            for file, plan in sorted(files, key=lambda one: (PRIORITIES.index(one[1].priority), one[0].name))
            for duty in self._duties[file.name].values()
            if duty.is_due(plan, now, monotonic)
        ]

    async def _do(self, duty: Duty, plan: PrefetchFile) -> None:
        try:
            duty.looked(await self._fetcher.look(duty.wanted))
            now = time.time()
            if is_open(plan.window, now) and duty.due_at(plan, now, time.monotonic()) <= now:
                await self._fetcher.fetch(duty.wanted, refresh=duty.is_done)
                duty.fetched(time.time())
        except ShuttingDown:
            return
        except Exception as error:
            if not isinstance(error, HubError):
                log.exception("a prefetch failed for a reason of our own")
                error = Internal("hubd failed; its log has the reason")
            duty.failed(error, time.monotonic())
            if duty.failures == 1:
                log.warning("prefetch: %s", duty.failure)
        finally:
            duty.is_running = False
            self._running -= 1
            self._woken.set()


def _tell(file: ReadFile, modules: int) -> None:
    if file.problem is None:
        log.info(
            "prefetch file %s: %d %s%s",
            file.name,
            modules,
            "module" if modules == 1 else "modules",
            ", pinned" if file.plan and file.plan.pin else "",
        )
        return
    still = "; what it said before goes on" if file.plan is not None else ""
    log.warning("prefetch file %s is broken: %s%s", file.name, file.problem, still)

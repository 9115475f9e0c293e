"""Notices what others remove from the cache or put in its place, without waiting for a use.

Law: it goes by what is there, never by who did it: an event only says where to look, and what is not as it should be
is looked at again after a pause. So the daemon's own changes need no mark, and an eviction under way is none.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import suppress
from typing import Literal

import watchfiles

from hubclient.contract.errors import HubError
from hubclient.contract.layout import digest_of_target, is_digest
from hubd.fetching.means import Means
from hubd.fetching.resolver import Resolver
from hubd.fetching.troubles import Troubles
from hubd.fetching.verifier import GONE
from hubd.store.layout import StoreLayout

log = logging.getLogger(__name__)

Mode = Literal["inotify", "sweep"]
Trouble = Literal["tree", "view", "record"]  # what is gone, or wrong
#: The paths of `trees/` and `handles/` that changed; none: look everywhere.
Events = AsyncIterator[Collection[str]]

_STEP_MS = 500  # of the thread that collects events: it wakes so often, and the daemon's end waits so long for it
_DEBOUNCE_MS = 2000
_FULL_LOOK_MS = 3_600_000  # for what a full queue of events has lost
_SWEEP_SECONDS = 60.0
_PAUSE_SECONDS = 2.0


async def inotify(layout: StoreLayout) -> Events:
    """What the kernel tells. Raises `OSError` or `RuntimeError` where it has no watch left to give."""
    changes = watchfiles.awatch(
        layout.trees,
        layout.handles,
        recursive=False,
        watch_filter=None,
        force_polling=False,
        step=_STEP_MS,
        debounce=_DEBOUNCE_MS,
        rust_timeout=_FULL_LOOK_MS,
        yield_on_timeout=True,
    )
    async for batch in changes:
        # A record is touched at each use of its module, and that changes nothing else.
        paths = {path for change, path in batch if change != watchfiles.Change.modified or not path.endswith(".json")}
        if paths or not batch:
            yield paths


async def sweeps(every_seconds: float = _SWEEP_SECONDS) -> Events:
    """A look everywhere now and then, where events cannot be had."""
    while True:
        await asyncio.sleep(every_seconds)
        yield ()


class Watch:
    """Watches while it runs. `mode` says how; `warn` is told when that is the worse way."""

    def __init__(
        self,
        means: Means,
        resolver: Resolver,
        warn: Callable[[str], None],
        events: Callable[[StoreLayout], Events] = inotify,
        instead: Callable[[], Events] = sweeps,
        pause_seconds: float = _PAUSE_SECONDS,
    ) -> None:
        self.mode: Mode = "inotify"
        self._means = means
        self._resolver = resolver
        self._warn = warn
        self._events = events
        self._instead = instead
        self._pause_seconds = pause_seconds
        self._troubles = Troubles(log)

    async def run(self) -> None:
        """Never ends by itself."""
        try:
            await self._follow(self._events(self._means.trees.layout))
        except (OSError, RuntimeError) as error:  # the second is the watching library's own
            self.mode = "sweep"
            self._warn(
                f"the cache cannot be watched ({error}), so what others remove is noticed only every "
                f"{_SWEEP_SECONDS:.0f} s: raise fs.inotify.max_user_instances or fs.inotify.max_user_watches"
            )
            await self._follow(self._instead())

    async def _follow(self, events: Events) -> None:
        async for paths in events:
            with self._troubles.told("the cache could not be looked at"):
                await self._react(paths)

    async def _react(self, paths: Collection[str]) -> None:
        await self._means.room.scanned.wait()  # start-up puts much right itself, and fills the catalog
        troubles = await asyncio.to_thread(self._look_at, paths)
        if not troubles:
            return
        await asyncio.sleep(self._pause_seconds)
        in_flight = {flight.work.progress.key for flight in self._resolver.fetches()}
        orphans: set[str] = set()
        for key, trouble in troubles.items():
            # A fetch under way will put all of it right.
            if key not in in_flight:
                spelling = await self._means.to_its_end(_Case(self._means, key, trouble, orphans).act)
                if spelling is not None:
                    await self._fetch_again(spelling)
        if orphans:
            await self._means.to_its_end(lambda: self._withdraw(orphans))
            self._means.litter.set()

    def _withdraw(self, orphans: set[str]) -> None:
        """Let trees go that no record names any more. In one go: each look reads all links."""
        with self._means.evictor.changing:
            nameless = {digest for digest in orphans if not self._means.records.catalog.of_digest(digest)}
            self._means.records.withdraw(nameless)
        self._means.orphans.update(nameless)

    def _look_at(self, paths: Collection[str]) -> dict[str, Trouble]:
        keys = self._keys(paths) if paths else self._suspicious_keys()
        return {key: trouble for key in keys if (trouble := trouble_with(self._means, key)) is not None}

    def _keys(self, paths: Collection[str]) -> set[str]:
        """The keys that the changed paths are about."""
        layout = self._means.trees.layout
        names = {(os.path.dirname(path), os.path.basename(path).removesuffix(".json")) for path in paths}
        keys = {name for directory, name in names if directory == layout.handles and is_digest(name)}
        gone = {
            name for directory, name in names if directory == layout.trees and not os.path.lexists(layout.tree(name))
        }
        catalog = self._means.records.catalog
        return keys | {entry.key for digest in gone for entry in catalog.of_digest(digest)}

    def _suspicious_keys(self) -> set[str]:
        """Those worth a closer look, by names and links alone: ten thousand records are not read for it."""
        records = self._means.records
        digests, links, keys = set(self._means.trees.digests()), dict(records.links()), set(records.keys())
        return {key for key in keys | links.keys() if key not in keys or links.get(key) not in digests}

    async def _fetch_again(self, spelling: str) -> None:
        try:
            await self._resolver.prefetch(spelling)
        except HubError as error:
            log.warning("a pinned module that was removed cannot be fetched again now: %s", error)


def trouble_with(means: Means, key: str) -> Trouble | None:
    """What is the matter with a module and its views, by what is there now."""
    layout = means.trees.layout
    record = means.records.get(key)
    if record is None:
        return "record" if os.path.lexists(layout.handle_link(key)) else None
    if not os.path.lexists(layout.tree(record.digest)):
        return "tree"
    right = means.records.views_are_right(record, direct_until=means.direct_until(record))
    return None if right else "view"


class _Case:
    """One module that was not as it should be."""

    def __init__(self, means: Means, key: str, trouble: Trouble, orphans: set[str]) -> None:
        """`orphans` is told of trees that may have lost their last record."""
        self._means = means
        self._key = key
        self._trouble = trouble
        self._orphans = orphans

    def act(self) -> str | None:
        """Put it right, if it still is so: the spelling to fetch it by, if that takes a fetch. In a thread."""
        with self._means.evictor.changing:
            if trouble_with(self._means, self._key) != self._trouble:
                return None
            match self._trouble:
                case "tree":
                    return self._without_tree()
                case "view":
                    self._with_wrong_views()
                case "record":
                    self._without_record()
        return None

    def _without_tree(self) -> str | None:
        means, record = self._means, self._means.records.get(self._key)
        if record is None:
            return None
        means.trees.health.found_damaged(record.digest, *GONE)
        means.trees.measure(record.digest)
        is_pinned = record.pinned or record.key in means.evictor.pins
        if is_pinned and record.reader is None:  # a private one takes its reader's credential
            return record.spellings[-1] if record.spellings else record.handle
        if means.records.remove_without_tree(self._key):
            means.trees.health.is_gone(record.digest)
        return None

    def _with_wrong_views(self) -> None:
        means, record = self._means, self._means.records.get(self._key)
        if record is not None and means.records.mend_views(record, direct_until=means.direct_until(record)):
            log.warning("views of %s were gone or wrong, and are mended", self._key)

    def _without_record(self) -> None:
        """Somebody removed it: so the module goes, unless another handle names it too."""
        records = self._means.records
        with suppress(OSError):
            digest = digest_of_target(os.readlink(records.layout.handle_link(self._key)))
            if records.remove_without_tree(self._key) and digest is not None:
                log.warning("the record %s is gone, and its views go too", self._key)
                self._orphans.add(digest)

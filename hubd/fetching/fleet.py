"""The fleet's tier as this machine's fetches know it, by the settings that hold now.

Law: without a store nothing of it is loaded. With one, whatever is wrong with it is told once when it begins and once
when it is over, and costs no fetch its origin.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING, Any

from hubclient.contract import handles
from hubd.config import Settings
from hubd.config_stores import FleetSettings
from hubd.fetching.progress import Progress
from hubd.fetching.uploads import Uploads
from hubd.network.pace import Pace

if TYPE_CHECKING:
    from hubd.fetching.sharing import Sharing
    from hubd.fleet.bucket import Bucket
    from hubd.fleet.counters import Figures
    from hubd.fleet.tier import Tier

log = logging.getLogger(__name__)

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class Fleet:
    """For the event loop. `reach` gives the bucket of the settings that hold, for a block; `spawn` starts a task in the
    group that owns all work; `litter` is set when something lies in the trash."""

    def __init__(
        self,
        reach: Callable[[], AbstractAsyncContextManager[Bucket | None]],
        spawn: Spawn,
        litter: asyncio.Event,
    ) -> None:
        self.terms = FleetSettings()
        self.tier: Tier | None = None  #: None: no store is named, or no network may be asked
        self._reach = reach
        self._group_spawn = spawn
        self.uploads = Uploads(self._spawn, litter, Pace())
        self._settings: Settings | None = None
        self._figures: Figures | None = None  # they go on when settings change
        self._told: str | None = None

    def apply(self, settings: Settings) -> None:
        """From now on by these; what is under way ends where they name another store."""
        before, self._settings = self._settings, settings
        self.uploads.pace.change(settings.network.max_rate, settings.network.prefetch_max_rate)
        if before is not None and _concern(before) == _concern(settings):
            return
        if settings.fleet.store != self.terms.store:
            self._told = None  # it was of another store
        self.terms = terms = settings.fleet
        if terms.store is None or settings.network.offline:
            self.tier = None
            return
        from hubd.fleet.tier import Tier  # whoever has no fleet does without it

        # Anew: what was wrong with the store may be mended by these settings.
        self.tier = tier = Tier(self._reach, lambda: terms, self._spawn)
        if self._figures is not None:
            tier.figures = self._figures
        self._figures = tier.figures
        self._spawn(self._probe(tier))

    def sharing(self, progress: Progress, client_waits: asyncio.Event) -> Sharing | None:
        """The part that a fetch for everyone has in the fleet; None: none. `client_waits` is set while one does."""
        if self.tier is None or self._settings is None or handles.is_object(progress.handle):
            return None  # what is in a store already comes from there
        from hubd.fetching.sharing import Rules, Sharing

        # A store tells times in whole seconds: what it says is of this second may be older than that.
        max_age_seconds = self._settings.network.revalidate_after - 1.0
        rules = Rules(max_age_seconds, self.terms.share_credentialed)
        look = partial(self._look, self.tier)
        return Sharing(self.tier, self.uploads, rules, progress, client_waits, self._spawn, look)

    @property
    def figures(self) -> Figures | None:
        """What the tier was good for since the daemon started; None: there never was one."""
        return self._figures

    def _look(self, tier: Tier) -> None:
        """Tells the log of what is wrong with the store, when that has changed. Of what a tier knows that the settings
        have left, and of one that nobody has asked yet, there is nothing to tell.
        """
        trouble = tier.status.trouble
        if tier is not self.tier or trouble == self._told:
            return
        self._told = trouble
        if trouble is not None:
            log.warning("the fleet's store %s cannot be used in full: %s", self.terms.store, trouble)
        else:
            log.info("the fleet's store %s is well again", self.terms.store)

    async def stop(self) -> None:
        """Gives up what is being uploaded, and uploads no more."""
        await self.uploads.close()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task whose end, however bad, is nobody else's: the group that owns it would end with its error."""
        task = self._group_spawn(_logged(work))
        task.add_done_callback(lambda _: work.close())  # where it was cancelled before its first step
        return task

    async def _probe(self, tier: Tier) -> None:
        """Finds out before the first fetch does: it would wait for that."""
        await tier.probe()
        self._look(tier)


async def _logged(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except Exception:  # a mistake of our own
        log.exception("what is done behind the fetches for the fleet has failed")


def _concern(settings: Settings) -> tuple[object, ...]:
    return settings.fleet, settings.object_store, settings.credential, settings.network, settings.host

"""The clean point of the cache: what was published before it needs no check after the next unclean stop.

Law: it moves past what a stop left unchecked only when all of that was checked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

from hubclient.contract.errors import HubError
from hubd.fetching.means import Means
from hubd.fetching.verifier import GONE
from hubd.store import recovery
from hubd.store.hold import CacheHold

log = logging.getLogger(__name__)

_MOVE_SECONDS = 180.0


async def keep(means: Means, hold: CacheHold, suspects: Collection[str], every_seconds: float = _MOVE_SECONDS) -> None:
    """Checks what an unclean stop left, then moves the clean point on behind what is published, so that the next such
    stop costs little. Never ends."""
    if hold.unchecked_since is not None and await _check(means, suspects):
        await _move(hold, hold.since)
    while True:
        await asyncio.sleep(every_seconds)
        now = means.trees.quiet_since()
        if hold.unchecked_since is not None or now is None:
            continue
        # Of a clock that was set back the point lies ahead, and what comes until then would need no check.
        if means.trees.published_at >= hold.clean_point or now < hold.clean_point:
            await _move(hold, now)


async def _check(means: Means, suspects: Collection[str]) -> bool:
    """Whether all could be checked."""
    checked, damaged = 0, 0
    for digest in suspects:
        try:
            damaged += (await means.verifier.check(digest)).damage not in ((), GONE)
            checked += 1
        except HubError as error:
            log.warning("the tree %s could not be checked, and is not served before it is: %s", digest, error)
    if suspects:
        try:
            await asyncio.to_thread(recovery.mend_views, means.records, set(suspects), means.direct_until)
        except HubError as error:
            log.warning("views could not be mended: %s", error)
        log.info("after an unclean stop: %d of %d trees checked, %d damaged", checked, len(suspects), damaged)
    return checked == len(suspects)


async def _move(hold: CacheHold, clean_point: float) -> None:
    try:
        await asyncio.to_thread(hold.move_clean_point, clean_point)
    except HubError as error:
        log.warning("the clean point stays at %.0f: %s", hold.clean_point, error)

"""When the machine's clock is set: what was written with the old time is judged by the new one.

Law: a time to come is a clock's mistake. It lets no client go without the daemon, keeps nobody's grant alive, and no
module from being the next to go.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from hubd.fetching.means import Means
from hubd.fetching.troubles import Troubles
from hubd.store import recovery

log = logging.getLogger(__name__)

_LOOK_SECONDS = 15.0
_STEP_SECONDS = 5.0  # what is slewed takes longer


def ahead_of_boot() -> float:
    """How far the clock is ahead of the one that nobody sets, in seconds. Sleep counts in both."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


async def follow(
    means: Means, ahead: Callable[[], float] = ahead_of_boot, every_seconds: float = _LOOK_SECONDS
) -> None:
    """Never ends. What a daemon finds at its start, recovery judges."""
    troubles, known = Troubles(log), ahead()
    await means.room.scanned.wait()
    while True:
        await asyncio.sleep(every_seconds)
        step = (now := ahead()) - known
        if abs(step) < _STEP_SECONDS:
            continue
        with troubles.told("what the old clock wrote could not be mended; it is tried again"):
            await asyncio.to_thread(_judge, means)
            known = now
            log.warning("the clock was set by %+.0f s: what it said before was judged anew", step)


def _judge(means: Means) -> None:
    catalog = means.records.catalog
    catalog.no_later_than(time.time())
    recovery.mend_views(means.records, [digest for digest, _ in catalog.by_digest()], means.direct_until)
    for digest in {entry.digest for entry in catalog.private()}:
        means.records.admit(digest)

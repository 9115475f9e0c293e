"""What is told of a fetch that is over: one line in the log, and its figures.

Law: every fetch that began is told of once, however it ended; and neither a query, which may hold a secret, nor a
credential is in what is logged.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from hubclient.contract.errors import CacheFull, DiskFull, HubError, Internal
from hubd.events import Event
from hubd.fetching.means import Means
from hubd.network.sources import TierName

if TYPE_CHECKING:
    from hubd.fetching.fetch import Fetch
    from hubd.fetching.landing import Landed

log = logging.getLogger(__name__)

# What the events tell too, to whom may know of the fetch: not who else asked.
_TOLD = ("outcome", "detail", "bytes", "seconds", "seconds_by_phase", "digest", "prefetch", "tier")


class Report:
    """Of one fetch, which begins now. One of the three methods ends it."""

    def __init__(self, means: Means, fetch: Fetch) -> None:
        self._means = means
        self._fetch = fetch
        self._publish("fetch-started", {"prefetch": fetch.is_prefetch})

    def landed(self, landed: Landed) -> None:
        """It came to this."""
        self._means.counters.ended[landed.found] += 1
        self._end(landed.found, landed.error, landed.record.digest, tier=landed.tier)
        for warning in landed.warnings:
            log.warning("%s: %s", self._fetch.progress.loggable, warning)

    def failed(self, error: HubError) -> None:
        self._means.counters.ended["failed"] += 1
        # What a user asked for, and what origins do, is no trouble of the machine's.
        level = logging.ERROR if isinstance(error, Internal) else logging.INFO
        self._end(error.code, error, level=logging.WARNING if isinstance(error, CacheFull | DiskFull) else level)

    def cancelled(self) -> None:
        """Nobody waits for it any more, or the daemon stops."""
        self._means.counters.ended["cancelled"] += 1
        self._end("cancelled")

    def _end(
        self,
        outcome: str,
        error: HubError | None = None,
        digest: str | None = None,
        *,
        tier: TierName | None = None,
        level: int = logging.INFO,
    ) -> None:
        progress = self._fetch.progress
        progress.end()
        phases = progress.seconds_by_phase
        self._means.durations.observe(phases)
        transferring_seconds = phases.get("transferring", 0.0)
        fields: dict[str, Any] = {
            "handle": progress.loggable,
            "outcome": outcome,
            "detail": str(error) if error is not None else None,
            "bytes": progress.transferred_bytes,
            "seconds": round(sum(phases.values()), 3),
            "seconds_by_phase": {phase: round(seconds, 3) for phase, seconds in phases.items()},
            "bytes_per_second": round(progress.transferred_bytes / transferring_seconds)
            if transferring_seconds
            else None,
            "tries": progress.tries,
            "connections": progress.connections,
            "resumed_bytes": progress.resumed_bytes,
            "digest": digest,
            "waiters": self._fetch.waited,
            "users": sorted(uid for uid in self._fetch.askers if uid is not None),
            "host": progress.host,
            "tier": tier or progress.tier,
            "prefetch": self._fetch.is_prefetch,
            "id": progress.id,
        }
        log.log(level, "fetch ended", extra={"fields": fields})
        told = {name: fields[name] for name in _TOLD if fields[name] is not None}
        self._publish("fetch-ended", {**told, "failed": error is not None and digest is None})

    def _publish(self, name: str, fields: dict[str, Any]) -> None:
        progress = self._fetch.progress
        names = {"id": progress.id, "key": progress.key, "handle": progress.handle}
        self._means.events.publish(Event(name, names | fields, self._fetch.is_seen_by))

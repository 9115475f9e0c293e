"""Looks for one module that a prefetch file wants, and fetches it.

Law: a look costs no request, counts as no use, and leaves no lease; what is fetched is a prefetch of nobody's.
"""

from __future__ import annotations

from hubclient.contract.errors import DigestMismatch, UpstreamUnavailable
from hubclient.contract.prefetch_file import Wanted
from hubd.fetching.means import Means
from hubd.fetching.resolver import Ask, Resolver
from hubd.store.records import Record


class Fetcher:
    """For the event loop."""

    def __init__(self, means: Means, resolver: Resolver) -> None:
        self._means = means
        self._resolver = resolver

    async def look(self, wanted: Wanted) -> float | None:
        """When its origin last said that what is here is it (unix seconds); None when it is not here, as it is wanted.

        Raises `HubError`s.
        """
        record = await self._there(wanted)
        return record.fetched_at.timestamp() if record is not None else None

    async def fetch(self, wanted: Wanted, *, refresh: bool) -> None:
        """Fetch it, or with `refresh` ask its origin whether it has changed: a conditional request.

        Raises `HubError`s: `UpstreamUnavailable` too where an old copy is all that there is.
        """
        try:
            answer = await self._resolver.fetch(Ask(wanted.handle, wanted.digest, refresh=refresh, prefetch=True))
        except DigestMismatch:
            # Hosts that pack archives when they are asked send other bytes for the same content.
            if await self._there(wanted) is None:
                raise
        else:
            if answer.outcome == "stale":
                raise UpstreamUnavailable("; ".join(answer.warnings))

    async def _there(self, wanted: Wanted) -> Record | None:
        """What is recorded of it, if its tree is whole and what is wanted."""
        record = self._means.record_for(wanted.key, None)
        lease = await self._means.find(record) if record is not None else None
        if record is None or lease is None:
            return None
        with lease:
            return record if await self._is_wanted(wanted, record.digest) else None

    async def _is_wanted(self, wanted: Wanted, digest: str) -> bool:
        if wanted.digest in (None, digest):
            return True
        if wanted.content_digest is None:
            return False
        manifest = await self._means.to_its_end(lambda: self._means.trees.manifest(digest))
        return manifest is not None and manifest.content_digest == wanted.content_digest

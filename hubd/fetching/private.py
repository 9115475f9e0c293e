"""A fetch with a user's own credential: what it brings is that user's alone.

Law: a user gets what the origin lets that user have. Content that is here for another one is given only after proof:
the origin answers this user's own request, at the end of the same way, that it still is that version (304).
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import islice

from hubclient.contract.errors import AccessDenied, HubError, UpstreamDenied, UpstreamNotFound
from hubd.fetching.fetch import Fetch, Landed
from hubd.fetching.means import Means
from hubd.network.conditions import Validators
from hubd.network.credentials import Credential
from hubd.network.sources import Delivery
from hubd.store import acl
from hubd.store.readers import record_key, to_be_named
from hubd.store.records import Record

_MOST_MODELS = 4


class FlightKeys:
    """What tells flights and remembered failures apart, which nobody shares who shows another credential.

    A credential stands in them as a code that only this process can make, never as itself.
    """

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)

    def of(self, key: str, uid: int | None, credential: Credential | None) -> str:
        """For the handle of this key, asked for by this user with this credential; without one it is the key."""
        if credential is None or uid is None:
            return key
        code = hmac.digest(self._secret, credential.header().encode(), "sha256").hex()
        return f"{record_key(key, uid)} {code}"


class PrivateFetch(Fetch):
    """The work of a flight for one user, who shows a credential."""

    def __init__(
        self,
        means: Means,
        handle: str,
        key: str,
        *,
        reader: int,
        credential: Credential,
        spelling: str,
        refresh: bool,
    ) -> None:
        self._salt = means.records.salt()
        own_key = record_key(key, reader, self._salt)
        super().__init__(means, handle, own_key, spelling=spelling, refresh=refresh, credential=credential)
        self._partial_key = record_key(key, reader)
        self.reader: int = reader

    async def _ask(self) -> Landed:
        means = self._means
        if to_be_named({self.reader}) and not acl.is_known_to(means.trees.layout.trees):
            raise AccessDenied(
                "this module is private, and the file system of hubd's cache keeps no ACLs to close it to others: "
                "put the cache on ext4, xfs or btrfs, or start a daemon of your own (HUBD_SOCKET= HUBD_AUTOSTART=1)"
            )
        # Until the records are all read, nobody knows who else may read a tree.
        await means.room.scanned.wait()
        try:
            return await self._prove() or await self._ask_in_turn(None)
        except (UpstreamDenied, UpstreamNotFound):  # many hosts say the second to whom they deny
            await means.to_its_end(self._withdraw)
            raise

    async def _prove(self) -> Landed | None:
        """What is here already, if the origin lets this user have it; None when it does not say so."""
        async with self._model() as model:
            if model is None:
                return None
            # In its turn, as without a model: how long it takes tells nobody that somebody has this module.
            async with self._means.slots, self._open(Validators(model.etag)) as delivery:
                if not is_proof(delivery, model):
                    return None
                return await self._means.to_its_end(lambda: self._grant(model, delivery))

    @asynccontextmanager
    async def _model(self) -> AsyncIterator[Record | None]:
        """A record whose content this handle may still have, its tree held for the block."""
        for record in islice(self._candidates(), _MOST_MODELS):
            if (lease := await self._means.find(record)) is not None:
                try:
                    yield record
                finally:
                    self._means.grace.keep(lease)
                return
        yield None

    def _candidates(self) -> Iterator[Record]:
        """The user's own record, then the others of the handle, the newest first."""
        own, records = self.progress.key, self._means.records
        entries = [entry for entry in records.catalog.private() if entry.handle == self.progress.handle]
        for entry in sorted(entries, key=lambda entry: (entry.key != own, -entry.fetched_at)):
            record = records.get(entry.key)
            if record is not None and record.final_url is not None and _is_strong(record.etag):
                yield record

    def _grant(self, model: Record, delivery: Delivery) -> Landed:
        left: list[str] = []

        def change(now: Record | None) -> Record:
            if now is not None and now.digest != model.digest:
                left.append(now.digest)
            own = {
                "spellings": now.spellings if now is not None else (self._spelling,),
                "pinned": now is not None and now.pinned,
                "fetched_at": datetime.now(UTC),
                "last_modified": delivery.validators.last_modified,
            }
            return self._marked(model.model_copy(update=own), delivery)

        record = self._means.amend(self.progress.key, change)
        assert record is not None
        self._means.orphans.update(left)
        return Landed(record, "confirmed")

    def _withdraw(self) -> None:
        def change(now: Record | None) -> Record | None:
            return now.model_copy(update={"granted_until": datetime.now(UTC)}) if now is not None else None

        self._means.amend(self.progress.key, change, is_use=False)

    def _goes_on_after(self, error: HubError, before: Record) -> bool:
        if isinstance(error, UpstreamDenied | UpstreamNotFound) or not self._means.is_fresh(before):
            return False
        return super()._goes_on_after(error, before)

    def _readers(self, digest: str) -> frozenset[int] | None:
        others = self._means.records.readers(digest) if self._means.records.catalog.of_digest(digest) else frozenset()
        return others | {self.reader} if others is not None else None

    def _marked(self, record: Record, delivery: Delivery) -> Record:
        marks = {"reader": self.reader, "granted_until": self._means.grant_until()}
        return record.model_copy(update={**marks, "salt": self._salt, "final_url": _end(delivery)})


def work(
    means: Means,
    handle: str,
    key: str,
    uid: int | None,
    credential: Credential | None,
    *,
    spelling: str,
    refresh: bool,
) -> Fetch:
    """The fetch for everyone, or with a credential the one for this user."""
    if credential is None or uid is None:
        return Fetch(means, handle, key, spelling=spelling, refresh=refresh)
    return PrivateFetch(means, handle, key, reader=uid, credential=credential, spelling=spelling, refresh=refresh)


def is_proof(delivery: Delivery, model: Record) -> bool:
    """Whether the answer to a user's own request shows that the user may have what the model's was answered with.

    That is a 304 to its ETag from where it came from. A 200 is none: a page to sign in is one too.
    """
    return delivery.body is None and delivery.validators.etag == model.etag and _end(delivery) == model.final_url


def _end(delivery: Delivery) -> str | None:
    """Where the redirects led to, without a query: that may be a signature, which is a new one each time."""
    return str(delivery.url.with_query(None).with_fragment(None)) if delivery.url is not None else None


def _is_strong(etag: str | None) -> bool:
    return etag is not None and len(etag) >= 2 and etag[0] == etag[-1] == '"'

"""A fetch with a user's own credential: what it brings is that user's alone.

Law: a user gets what the origin lets that user have. Content that is here for another one is given only after proof:
the origin answers this user's own request, at the end of the same way, that it still is that version (304).
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from itertools import islice
from typing import NamedTuple

from hubclient.contract.errors import AccessDenied, HubError, UpstreamDenied, UpstreamNotFound
from hubd.fetching.fetch import Fetch
from hubd.fetching.flights import Flights
from hubd.fetching.landing import Landed
from hubd.fetching.means import Means
from hubd.network.conditions import Validators
from hubd.network.credentials import Credential
from hubd.network.sources import Delivery
from hubd.store import acl
from hubd.store.readers import record_key, to_be_named
from hubd.store.records import Record

_MOST_MODELS = 4


class Fetches:
    """Makes the work of flights, for everyone and for single users, and the names that tell it apart."""

    def __init__(self, means: Means, flights: Flights[str, Fetch, Landed]) -> None:
        self._means = means
        self._flights = flights
        self._secret = secrets.token_bytes(32)

    def name(self, key: str, uid: int | None, credential: Credential | None) -> str:
        """Of the flight, and of failures that are remembered: nobody shares them who shows another credential.

        A credential stands in it as a code that only this process can make. Without one the name is the handle's key.
        """
        if credential is None or uid is None:
            return key
        code = hmac.digest(self._secret, credential.header().encode(), "sha256").hex()
        return f"{record_key(key, uid)} {code}"

    def work(
        self, handle: str, key: str, uid: int | None, credential: Credential | None, *, spelling: str, refresh: bool
    ) -> Fetch:
        """The fetch for everyone, or with a credential the one for this user."""
        if credential is None or uid is None:
            is_urgent = partial(self._flights.is_urgent, key)
            return Fetch(self._means, handle, key, spelling=spelling, refresh=refresh, is_urgent=is_urgent)
        make = partial(PrivateFetch, self._means, handle, key, reader=uid, credential=credential, spelling=spelling)
        name = self.name(key, uid, credential)
        fetch = make(refresh=refresh, is_urgent=partial(self._flights.is_urgent, name))
        fetch.among(self._flights, name)
        return fetch


class _Model(NamedTuple):
    """Content that is another user's, or was this one's: its version, where it came from, and what to take it from."""

    etag: str | None
    end: str | None
    record: Record | None = None
    other: PrivateFetch | None = None


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
        is_urgent: Callable[[], bool],
    ) -> None:
        self._salt = means.records.salt()
        own_key = record_key(key, reader, self._salt)
        make = partial(super().__init__, means, handle, own_key, spelling=spelling, credential=credential)
        make(refresh=refresh, is_urgent=is_urgent)
        self._partial_key = record_key(key, reader)
        self.reader: int = reader
        self._flights: Flights[str, Fetch, Landed] | None = None
        self._name = ""
        self._delivery: Delivery | None = None  # while it is taken

    def among(self, flights: Flights[str, Fetch, Landed], name: str) -> None:
        """Its flight is one of these, under this name: those of other users may bring what it is about to fetch."""
        self._flights, self._name = flights, name

    async def _ask(self) -> Landed:
        means = self._means
        if to_be_named({self.reader}) and not acl.is_known_to(means.trees.layout.trees):
            raise AccessDenied(
                "this module is private, and the file system of hubd's cache keeps no ACLs to close it to others: "
                "the administrator can put the cache on one that does, such as ext4, xfs or btrfs"
            )
        # Until the records are all read, nobody knows who else may read a tree.
        await means.room.scanned.wait()
        try:
            landed = await self._ask_about_a_model() or await self._ask_in_turn(None, self._confirmed)
            assert landed is not None
            return landed
        except (UpstreamDenied, UpstreamNotFound):  # many hosts say the second to whom they deny
            await means.to_its_end(self._withdraw)
            raise

    async def _ask_about_a_model(self) -> Landed | None:
        """What is here or under way, if the origin lets this user have it, else what it sends instead; None when it
        says nothing that counts.

        It is one request in its turn, as without a model: how long it takes tells nobody that somebody has this module.
        """
        means = self._means
        async with self._model() as model:
            if model is None:
                return None
            proofs: list[Delivery] = []

            async def unchanged(delivery: Delivery) -> Landed | None:
                if not is_proof(delivery, model.etag, model.end):
                    return None
                proofs.append(delivery)
                record = model.record
                return await means.to_its_end(lambda: self._grant(record, delivery)) if record is not None else None

            landed = await self._ask_in_turn(Validators(model.etag), unchanged)
            return await self._join(model, proofs[0]) if landed is None and proofs else landed

    async def _join(self, model: _Model, delivery: Delivery) -> Landed | None:
        """What the other user's flight brings, now that this one may have it; None when that fails."""
        if self._flights is None or model.other is None:
            return None
        try:
            # A waiter from here on: it goes on for this user when all others leave.
            async with self._flights.board(model.other._name, _is_over) as (flight, _):
                record, tier = (landed := await flight.outcome()).record, landed.tier
        except (LookupError, HubError):
            return None
        if record.etag != model.etag or (lease := await self._means.find(record)) is None:
            return None
        self._means.grace.keep(lease)
        granted = await self._means.to_its_end(lambda: self._grant(record, delivery))
        return Landed(granted.record, "joined", tier=tier)

    async def _take(self, delivery: Delivery) -> Landed:
        self._delivery = delivery
        try:
            return await super()._take(delivery)
        finally:
            self._delivery = None

    @asynccontextmanager
    async def _model(self) -> AsyncIterator[_Model | None]:
        """What this handle may have for this user too: a record, its tree held for the block, or what is under way."""
        for record in islice(self._candidates(), _MOST_MODELS):
            if (lease := await self._means.find(record)) is not None:
                try:
                    yield _Model(record.etag, record.final_url, record=record)
                finally:
                    self._means.grace.keep(lease)
                return
        for flight in self._flights.running() if self._flights is not None else ():
            other = flight.work
            if not isinstance(other, PrivateFetch) or other.progress.handle != self.progress.handle:
                continue
            theirs = other._delivery
            if theirs is not None and _is_strong(theirs.validators.etag):
                yield _Model(theirs.validators.etag, end_of(theirs), other=other)
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
        return record.model_copy(update={**marks, "salt": self._salt, "final_url": end_of(delivery)})


def is_proof(delivery: Delivery, etag: str | None, end: str | None) -> bool:
    """Whether the answer to a user's own request shows that the user may have the version of this ETag, which came from
    this end of its way: a 304 to it, from there. A 200 is none: a page to sign in is one too."""
    return delivery.body is None and delivery.validators.etag == etag and end_of(delivery) == end


def end_of(delivery: Delivery) -> str | None:
    """Where the redirects led to, without a query: that may be a signature, which is a new one each time."""
    return str(delivery.url.with_query(None).with_fragment(None)) if delivery.url is not None else None


def _is_strong(etag: str | None) -> bool:
    return etag is not None and len(etag) >= 2 and etag[0] == etag[-1] == '"'


def _is_over() -> Fetch:
    raise LookupError("the flight is over")

"""What lies in the fleet's store, and what of it may go.

Law: only what is hubd's own by its name is read or removed, and a record goes before its archive. Ages are by the
store's own clock, so that nothing goes by a machine's that is wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from hubd.fleet.bucket import ObjectInfo
from hubd.fleet.records import FleetRecord, kind_of, record_path, seen_record
from hubd.fleet.remote import Remote

_READ_AT_ONCE = 32


class Module(NamedTuple):
    """A module that the store has."""

    record: FleetRecord
    age_seconds: float
    has_archive: bool


class Doomed(NamedTuple):
    """An object that was chosen to go."""

    kind: Literal["record", "archive", "claim"]
    name: str
    handle: str | None
    size_bytes: int
    age_seconds: float


@dataclass
class Holdings:
    """The objects of one listing, by kind. `now`: the store's time, as far as an answer has told it."""

    remote: Remote
    records: dict[str, ObjectInfo] = field(default_factory=dict)  # by key
    archives: dict[str, ObjectInfo] = field(default_factory=dict)  # by digest
    claims: dict[str, ObjectInfo] = field(default_factory=dict)  # by key
    foreign: int = 0
    now: datetime | None = None

    @classmethod
    async def listed(cls, remote: Remote) -> Holdings:
        """Raises upstream-* errors, as do the others."""
        found = cls(remote)
        kinds = {"record": found.records, "archive": found.archives, "claim": found.claims}
        async for info in remote.listing(""):
            if (named := kind_of(info.path)) is None:
                found.foreign += 1
            else:
                kinds[named[0]][named[1]] = info
        return found

    async def modules(self) -> AsyncGenerator[Module]:
        """As their records say now; what is no record counts as foreign, and what is gone meanwhile is left out."""
        keys = sorted(self.records)
        for start in range(0, len(keys), _READ_AT_ONCE):
            for module in await asyncio.gather(*map(self._module, keys[start : start + _READ_AT_ONCE])):
                if module is not None:
                    yield module

    async def doomed(self, older_than_seconds: float, claim_seconds: float) -> AsyncGenerator[Doomed]:
        """What is older: records, then archives that no other record names, then claims that are older than
        `claim_seconds` too. Whoever removes one does so before asking for the next."""
        kept: set[str] = set()
        async with aclosing(self.modules()) as modules:
            async for record, age_seconds, _ in modules:
                if age_seconds < older_than_seconds:
                    kept.add(record.digest)
                    continue
                info = self.records[record.key]
                yield Doomed("record", info.path, record.handle, info.size_bytes, age_seconds)
        await self._learn_the_time()
        for digest, info in self.archives.items():
            if digest not in kept and (age := self._age_seconds(info)) is not None and age >= older_than_seconds:
                yield Doomed("archive", info.path, None, info.size_bytes, age)
        for info in self.claims.values():
            age = self._age_seconds(info)
            if age is not None and age >= max(older_than_seconds, claim_seconds):
                yield Doomed("claim", info.path, None, info.size_bytes, age)

    async def _module(self, key: str) -> Module | None:
        if (small := await self.remote.read(record_path(key))) is None:
            return None
        self._heard(self.records[key], small.age_seconds)
        if (record := seen_record(key, small).record) is None:
            self.foreign += 1
            return None
        archive = self.archives.get(record.digest)
        return Module(record, small.age_seconds, archive is not None and archive.size_bytes == record.archive_bytes)

    async def _learn_the_time(self) -> None:
        """From a claim, where no record has told it. Where there is neither, nobody knows how old an archive is."""
        for info in self.claims.values():
            if self.now is not None:
                return
            if (small := await self.remote.read(info.path)) is not None:
                self._heard(info, small.age_seconds)

    def _heard(self, info: ObjectInfo, age_seconds: float) -> None:
        # What was written since it was listed seems younger than it is: then the time is too early, and nothing goes
        # that should not.
        told = info.modified_at + timedelta(seconds=age_seconds)
        self.now = told if self.now is None else max(self.now, told)

    def _age_seconds(self, info: ObjectInfo) -> float | None:
        return max(0.0, (self.now - info.modified_at).total_seconds()) if self.now is not None else None

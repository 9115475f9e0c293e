"""What lies in the fleet's bucket, and what of it is too old.

Law: an archive goes after the records that name it, and never before; what is not the fleet's is counted and left
alone. Ages are by the store's own clock.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Literal, NamedTuple

from hubclient.contract.errors import UpstreamUnavailable
from hubd.fleet.bucket import ObjectInfo
from hubd.fleet.claims import Claim
from hubd.fleet.records import CLAIMS, MAX_SMALL_BYTES, FleetRecord, claim_path, kind_of, parsed_record
from hubd.fleet.remote import Remote

_AT_A_TIME = 16  # records that are read together
_DIGEST = re.compile(rb"[0-9a-f]{64}")

Kind = Literal["record", "archive", "claim"]


class Module(NamedTuple):
    """One that the fleet knows. `age_seconds`: since its record was written or renewed."""

    record: FleetRecord
    age_seconds: float
    has_archive: bool


class Totals(NamedTuple):
    """`archive_bytes`: of all archives that are there, named or not."""

    modules: int
    archive_bytes: int
    foreign: int
    claims: int


class Old(NamedTuple):
    """One object that is too old; `name`: its key or digest."""

    kind: Kind
    name: str
    handle: str | None
    size_bytes: int
    age_seconds: float
    removed: bool


class Removed(NamedTuple):
    """What `prune` removed; of a dry run, what it would."""

    removed: int
    removed_bytes: int


@dataclass
class _Stock:
    """One listing: all objects by kind and name."""

    records: dict[str, ObjectInfo] = field(default_factory=dict)
    archives: dict[str, ObjectInfo] = field(default_factory=dict)
    claims: dict[str, ObjectInfo] = field(default_factory=dict)
    foreign: int = 0


class _Read(NamedTuple):
    """One record that was read. `record`: None for what is none; `digests`: all that it might name."""

    info: ObjectInfo
    key: str
    record: FleetRecord | None
    digests: frozenset[str]
    age_seconds: float


async def modules(remote: Remote) -> AsyncIterator[Module | Totals]:
    """Each module, by key, and the totals at the end. Raises `HubError`s."""
    stock = await _listed(remote)
    known = 0
    async for read in _records(remote, stock):
        if read.record is not None:
            known += 1
            found = stock.archives.get(read.record.digest)
            is_whole = found is not None and found.size_bytes == read.record.archive_bytes
            yield Module(read.record, read.age_seconds, is_whole)
        else:
            stock.foreign += 1
    archive_bytes = sum(info.size_bytes for info in stock.archives.values())
    yield Totals(known, archive_bytes, stock.foreign, len(stock.claims))


async def prune(
    remote: Remote, older_than_seconds: float, claim_timeout: float, random: Random, *, dry_run: bool, may_write: bool
) -> AsyncIterator[Old | Removed]:
    """Removes what is older: records, then archives that no record names any more, then claims that nobody extends.

    What is younger than `claim_timeout` stays in any case, but for records: an archive that was just uploaded has no
    record yet. Each is told of when it is gone, and the totals at the end. `may_write`: else a dry run takes what was
    written last for written just now, where no record or claim tells what time it is. Raises `HubError`s.
    """
    stock, named = await _listed(remote), set[str]()
    now: datetime | None = None
    removed = removed_bytes = 0
    async for read in _records(remote, stock):
        now = read.info.modified_at + timedelta(seconds=read.age_seconds)
        if read.record is None or read.age_seconds < older_than_seconds:
            named |= read.digests
            continue
        if not dry_run:
            await remote.remove(read.info.path)
        removed, removed_bytes = removed + 1, removed_bytes + read.info.size_bytes
        yield Old("record", read.key, read.record.handle, read.info.size_bytes, read.age_seconds, not dry_run)
    if not dry_run and (stock.archives or stock.claims):
        # To read many records takes a while, in which machines share more: also what was there, and had no name.
        before, stock = stock, await _listed(remote)
        changed = {key: info for key, info in stock.records.items() if before.records.get(key) != info}
        async for read in _records(remote, _Stock(changed)):
            named |= read.digests
    others: list[tuple[Kind, str, ObjectInfo]] = [
        *(("archive", digest, info) for digest, info in stock.archives.items() if digest not in named),
        *(("claim", key, info) for key, info in stock.claims.items()),
    ]
    if others and now is None:
        now = await _now(remote, stock, random, may_write=may_write)
    for kind, name, info in others:
        assert now is not None  # or there are none
        age_seconds = (now - info.modified_at).total_seconds()
        if age_seconds < max(older_than_seconds, claim_timeout):
            continue
        if not dry_run:
            await remote.remove(info.path)
        removed, removed_bytes = removed + 1, removed_bytes + info.size_bytes
        yield Old(kind, name, None, info.size_bytes, age_seconds, not dry_run)
    yield Removed(removed, removed_bytes)


async def _listed(remote: Remote) -> _Stock:
    stock = _Stock()
    kinds = {"record": stock.records, "archive": stock.archives, "claim": stock.claims}
    async for info in remote.listing(""):
        found = kind_of(info.path)
        if found is None or (found[0] != "archive" and info.size_bytes > MAX_SMALL_BYTES):
            stock.foreign += 1
        else:
            kinds[found[0]][found[1]] = info
    return stock


async def _records(remote: Remote, stock: _Stock) -> AsyncIterator[_Read]:
    """Those that are still there."""
    waiting = sorted(stock.records.items())
    while waiting:
        some, waiting = waiting[:_AT_A_TIME], waiting[_AT_A_TIME:]
        for read in await asyncio.gather(*(_read(remote, key, info) for key, info in some)):
            if read is not None:
                yield read


async def _read(remote: Remote, key: str, info: ObjectInfo) -> _Read | None:
    if (small := await remote.read(info.path)) is None:
        return None
    record = parsed_record(key, small.data)
    # A newer version's record is none that this one can read: what it may name is kept.
    digests = {record.digest} if record else {found.decode() for found in _DIGEST.findall(small.data)}
    return _Read(info, key, record, frozenset(digests), small.age_seconds)


async def _now(remote: Remote, stock: _Stock, random: Random, *, may_write: bool) -> datetime:
    """What the store's clock shows, by a claim that is there, or one that is written for it."""
    for info in stock.claims.values():
        if (small := await remote.read(info.path)) is not None:
            return info.modified_at + timedelta(seconds=small.age_seconds)
    if not may_write:
        return max(info.modified_at for info in (*stock.archives.values(), *stock.claims.values()))
    claim = Claim(holder=f"{random.getrandbits(64):016x}")
    path = claim_path(f"{random.getrandbits(256):064x}")
    await remote.create(path, claim.body())
    try:
        small = await remote.read(path)
        async with aclosing(remote.listing(CLAIMS)) as listing:
            async for info in listing:
                if small is not None and info.path == path:
                    return info.modified_at + timedelta(seconds=small.age_seconds)
        raise UpstreamUnavailable("the store does not list what was just written to it")
    finally:
        await remote.remove(path)

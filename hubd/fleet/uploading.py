"""What one machine has becomes the fleet's: the archive, then the record that names it.

Law: a record is written when its archive is whole, and over nothing but the record that was seen. Who comes second
keeps what the first one wrote; that an immutable handle has two contents is told, and never decided here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from random import Random
from typing import Literal, TypeVar

from hubclient.contract.errors import DigestMismatch, HubError, UpstreamUnavailable
from hubd.fleet.records import FleetRecord, SeenRecord, archive_path, record_path, seen_record
from hubd.fleet.remote import Remote
from hubd.network.patience import may_pass

log = logging.getLogger(__name__)

T = TypeVar("T")
Archive = Callable[[], AsyncIterator[bytes]]  # all of its bytes, from the first, each time anew
Shared = Literal["uploaded", "there"]
Sent = Callable[[int], None]  # told how much of the archive is on its way

_TRIES = 3
_PAUSE_SECONDS = 2.0


async def upload(remote: Remote, record: FleetRecord, archive: Archive, sent: Sent, random: Random) -> None:
    """The archive, as `in_tries`."""

    async def counted() -> AsyncIterator[bytes]:
        sent_bytes = 0
        async for chunk in archive():
            yield chunk
            sent_bytes += len(chunk)
            sent(sent_bytes)

    await in_tries(record.key, random, lambda: remote.upload(archive_path(record.digest), counted()))


async def in_tries(key: str, random: Random, operation: Callable[[], Awaitable[T]]) -> T:
    """What the operation returns, in up to three tries. Raises the last one's error."""
    tries = 1
    while True:
        try:
            return await operation()
        except HubError as error:
            if tries == _TRIES or not may_pass(error):
                raise
            log.info("%s: its upload is tried again: %s", key, error)
        await asyncio.sleep(random.uniform(0.0, _PAUSE_SECONDS * 2 ** (tries - 1)))
        tries += 1


async def is_there(remote: Remote, record: FleetRecord) -> bool:
    """Whether the archive is in the store, by its name and its size."""
    return await remote.size_bytes(archive_path(record.digest)) == record.archive_bytes


async def write_record(
    remote: Remote, record: FleetRecord, seen: SeenRecord | None, *, is_immutable: bool, is_repair: bool = False
) -> Shared:
    """Name the archive, which is in the store, in place of `seen`; ``there``: another machine has done so already.

    `is_repair`: the archive that `seen` names is damaged. Raises `DigestMismatch` for an immutable handle of which the
    store has other content.
    """
    path, body = record_path(record.key), record.body()
    for _ in range(_TRIES):
        if seen is not None and seen.record is not None and not same_content(seen.record, record) and is_immutable:
            told = (
                f"the fleet's record of {record.handle} names other content ({seen.record.content_digest[:12]}) than "
                f"what was fetched here ({record.content_digest[:12]})"
            )
            if not is_repair:
                raise DigestMismatch(f"{told}; it stays")
            log.warning("%s, and its archive is damaged: it is replaced", told)
        written = remote.create(path, body) if seen is None else remote.replace(path, body, seen.version)
        if await written is not None:
            return "uploaded"
        small = await remote.read(path)
        seen = seen_record(record.key, small) if small is not None else None
        is_repair = False
        if seen is not None and seen.record is not None and (not is_immutable or same_content(seen.record, record)):
            return "there"
    raise UpstreamUnavailable(f"the fleet's record of {record.handle} changes all the time")


def same_content(one: FleetRecord, other: FleetRecord) -> bool:
    """Hosts that pack on the fly send other bytes for equal content."""
    return one.digest == other.digest or one.content_digest == other.content_digest

"""What is uploaded for the fleet: one archive, and the record that will name it.

Law: a record says what the origin sent, and nothing of who asked for it.
"""

from __future__ import annotations

import asyncio
import logging

from pydantic import ValidationError

from hubclient.contract.errors import HubError, UpstreamUnavailable
from hubd.fetching.uploads import Chunks
from hubd.fleet.records import FleetRecord
from hubd.fleet.turn import Turn
from hubd.network.conditions import Validators
from hubd.network.sources import Delivery
from hubd.store.manifest import Manifest

log = logging.getLogger(__name__)


class Errand:
    """One archive for the fleet. `outcome`: what came of it."""

    def __init__(self, turn: Turn, record: FleetRecord) -> None:
        self.record = record
        self.outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.outcome.add_done_callback(lambda outcome: outcome.cancelled() or outcome.exception())
        self._turn = turn

    async def carry(self, chunks: Chunks) -> None:
        """Raises `HubError`s."""
        try:
            shared = await self._turn.landed(self.record, chunks)
        except HubError as error:
            self.outcome.set_exception(error)
            raise
        self.outcome.set_result(shared)

    async def drop(self) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(UpstreamUnavailable("its upload was given up; the log of hubd has more"))
        await self._turn.abandoned()


def record_of(handle: str, delivery: Delivery, brought: Manifest) -> FleetRecord | None:
    """None for what cannot be told of, as a host with a strange name."""
    try:
        return FleetRecord(
            handle=handle,
            digest=brought.digest,
            content_digest=brought.content_digest,
            archive_bytes=brought.archive_bytes,
            etag=delivery.validators.etag,
            last_modified=delivery.validators.last_modified,
            final_host=delivery.final_host or None,
        )
    except ValidationError as error:
        told = error.errors(include_url=False, include_input=False)[0]["msg"]
        log.info("%s: not for the fleet: %s", handle.partition("?")[0], told)
        return None


def renewed(record: FleetRecord, validators: Validators) -> FleetRecord:
    """The same with the validators that the origin sent now; where it sent none that can be kept, as it is."""
    changes = {"etag": validators.etag, "last_modified": validators.last_modified}
    try:
        return FleetRecord.model_validate({**record.model_dump(), **changes})
    except ValidationError:
        return record

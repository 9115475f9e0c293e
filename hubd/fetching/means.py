"""What all fetches share, and what follows from the settings for a record."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from hubd.config import Settings
from hubd.fetching.grace import GraceLeases
from hubd.fetching.progress import Counters
from hubd.fetching.sources import HttpSource
from hubd.store.records import Record, Records
from hubd.store.trees import Trees
from hubd.unpacking.supervisor import UnpackLimits

_DIRECT_FOR_GOOD = float(2**31 - 1)  # the latest mtime that every file system can hold


@dataclass(frozen=True)
class Means:
    """What all fetches share."""

    settings: Settings
    trees: Trees
    records: Records
    source: HttpSource
    grace: GraceLeases
    slots: asyncio.Semaphore
    counters: Counters

    def direct_until(self, record: Record) -> float:
        """Until when (Unix seconds) clients may answer from the views of this record without the daemon."""
        if record.immutable:
            return _DIRECT_FOR_GOOD
        return record.fetched_at.timestamp() + self.settings.network.revalidate_after

    def is_fresh(self, record: Record) -> bool:
        return time.time() < self.direct_until(record)

    def add_spelling(self, key: str, spelling: str) -> None:
        """Records that the handle was asked for in this spelling, so that tensorflow_hub finds it under it."""
        self.records.amend(
            key,
            lambda record: record if spelling in record.spellings else record.with_spelling(spelling),
            self.direct_until,
        )

    def put(self, record: Record) -> None:
        self.records.put(record, direct_until=self.direct_until(record))

    @property
    def unpack_limits(self) -> UnpackLimits:
        limits = self.settings.limits
        return UnpackLimits(
            module_bytes=limits.module,
            files=limits.files,
            depth=limits.depth,
            path_bytes=limits.path,
            memory_bytes=limits.unpack_memory,
            time_seconds=limits.unpack_time,
        )

"""``transfer.json``: what is known of the beginning of an archive that lies beside it.

Law: it says no more than what the disk surely holds, and what does not make sense is no word at all.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from hubclient.contract import handles
from hubclient.contract.errors import HandleInvalid
from hubd.store.manifest import SizeBytes
from hubd.store.readers import record_key

# They go into the head of a request as they are.
_Etag = Annotated[str, Field(pattern='^"[ -~]*"$', max_length=1024)]
_HttpDate = Annotated[str, Field(pattern="^[ -~]+$", max_length=1024)]


def _canonical(handle: str) -> str:
    try:
        is_canonical = handles.canonical(handle) == handle
    except HandleInvalid:
        is_canonical = False
    if not is_canonical:
        raise ValueError("no canonical handle")
    return handle


class Transfer(BaseModel):
    """What the bytes are. Fields that it does not know (a newer version's) are ignored."""

    model_config = ConfigDict(frozen=True)

    handle: Annotated[str, AfterValidator(_canonical)]
    reader: int | None = Field(default=None, ge=0, description="the uid whose it is; null: everyone's")
    etag: _Etag | None = Field(default=None, description="strong")
    last_modified: _HttpDate | None = None
    total_bytes: Annotated[int, Field(ge=1)] | None = Field(default=None, description="of the archive, if stated")
    ranges: tuple[tuple[SizeBytes, SizeBytes], ...] = Field(
        default=(), description="[start, end) of what a power cut cannot take, in order and apart"
    )
    sparse: bool = Field(default=False, description="the file may have holes, so that its size says nothing")
    of_fleet: bool = Field(default=False, description="they came from the fleet's store, not from the origin")
    boot_id: str
    updated_at: AwareDatetime

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.etag is None and self.last_modified is None:
            raise ValueError("nothing to ask with whether the archive is still the same")
        at = -1
        for start, end in self.ranges:
            if not at < start < end:
                raise ValueError("ranges that are empty, touch, or are out of order")
            at = end
        if self.total_bytes is not None and at > self.total_bytes:
            raise ValueError("a range beyond the end of the archive")
        return self

    @property
    def key(self) -> str:
        return record_key(handles.key(self.handle), self.reader)

    def reaching(self, frontier_bytes: int) -> Transfer:
        """The same, now, with the bytes ``[0, frontier_bytes)`` on the disk for good."""
        ranges = ((0, frontier_bytes),) if frontier_bytes else ()
        return self.model_copy(update={"ranges": ranges, "updated_at": datetime.now(UTC)})

    def resume_bytes(self, spool_bytes: int, boot_id: str) -> int:
        """From where to go on with a spool of this size: what is before is there, and a byte to ask for is left.

        While the machine has not been started anew, all that was written is there, from the start on, whatever became
        of the daemon; afterwards, and of a file with holes, only what was synced.
        """
        sure_bytes = spool_bytes
        if self.sparse or boot_id != self.boot_id:
            sure_bytes = min(spool_bytes, next((end for start, end in self.ranges if start == 0), 0))
        last_bytes = self.total_bytes - 1 if self.total_bytes is not None else sure_bytes - 1
        return max(0, min(sure_bytes, last_bytes))

"""What the fleet knows of a handle: the object ``handles/<key>.json``.

Law: a record is believed as a whole or not at all. One that cannot be read, or is not of the handle that its name
stands for, counts as not there, and is replaced only by whoever has fetched the module.
"""

from __future__ import annotations

import logging
import re
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hubclient.contract import handles
from hubclient.contract.errors import HandleInvalid
from hubd.fleet.bucket import Small, Version

log = logging.getLogger(__name__)

MAX_SMALL_BYTES = 64 * 1024  # of a record or a claim

CLAIMS = "claims/"
_HANDLES, _ARCHIVES, _SUFFIX = "handles/", "archives/", ".json"
_OURS = re.compile(r"(?:(handles|claims)/([0-9a-f]{64})\.json|(archives)/([0-9a-f]{64}))", re.ASCII)

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Text = Annotated[str, Field(max_length=1024, pattern=r"^[ -~]*$")]


class FleetRecord(BaseModel):
    """What the archive of a handle is. No time is in it: its age is the object's, by the store's clock."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    layout: Literal[1] = 1
    handle: Annotated[str, Field(max_length=handles.MAX_HANDLE_LENGTH)]
    digest: Sha256
    content_digest: Sha256
    archive_bytes: Annotated[int, Field(ge=0, lt=1 << 63)]
    etag: Text | None = None
    last_modified: Text | None = None
    final_host: Text | None = None
    upload: Annotated[str, Field(max_length=64, pattern="^[0-9a-f]*$")] = Field(
        default="", description="changes with each upload of the archive: who found it damaged sees whether it is new"
    )

    @property
    def key(self) -> str:
        return handles.key(self.handle)

    def body(self) -> bytes:
        return self.model_dump_json(exclude_none=True).encode()


class SeenRecord(NamedTuple):
    """What lies where a record belongs. `record`: None for what is none."""

    record: FleetRecord | None
    version: Version
    age_seconds: float


def record_path(key: str) -> str:
    return f"{_HANDLES}{key}{_SUFFIX}"


def claim_path(key: str) -> str:
    return f"{CLAIMS}{key}{_SUFFIX}"


def archive_path(digest: str) -> str:
    return _ARCHIVES + digest


def kind_of(path: str) -> tuple[str, str] | None:
    """``record``, ``archive`` or ``claim``, and its key or digest; None: foreign."""
    found = _OURS.fullmatch(path)
    if found is None:
        return None
    return ("archive", found[4]) if found[3] else ("record" if found[1] == "handles" else "claim", found[2])


def parsed_record(key: str, data: bytes) -> FleetRecord | None:
    """None for what is no record, or not this key's."""
    try:
        record = FleetRecord.model_validate_json(data)
        is_it = record.key == key and handles.canonical(record.handle) == record.handle
    except (ValidationError, HandleInvalid, UnicodeError):  # the last: a lone surrogate has no key
        return None
    return record if is_it else None


def seen_record(key: str, small: Small) -> SeenRecord:
    record = parsed_record(key, small.data)
    if record is None:
        log.warning("%s in the fleet's store is no record of that handle: it counts as not there", record_path(key))
    return SeenRecord(record, small.version, small.age_seconds)

"""What the fleet's routes are asked and answer: a part of the wire contract of `messages`, under its law."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hubd.api.messages import MAX_HANDLES_PER_PREFETCH, Answer, Digest, Handle, Key, Request


class FleetModule(Answer):
    """A module that the store has. One line each."""

    event: Literal["module"] = "module"
    handle: str
    key: Key
    digest: Digest
    archive_bytes: int
    age_seconds: float = Field(description="since it was fetched or confirmed, by the store's clock")
    has_archive: bool


class FleetModulesDone(Answer):
    """The last line."""

    event: Literal["done"] = "done"
    done: Literal[True] = True
    modules: int
    archive_bytes: int = Field(description="of all archives, those that no module names included")
    foreign: int = Field(description="objects under the prefix that are none of hubd's; nothing touches them")
    claims: int = Field(description="modules that some machine fetches for all, or did not finish fetching")


class FleetPushRequest(Request):
    """What to put into the store, from the origins: archives are not kept on this machine."""

    handles: list[Handle] = Field(min_length=1, max_length=MAX_HANDLES_PER_PREFETCH)


class FleetPushed(Answer):
    """What became of one handle."""

    event: Literal["pushed"] = "pushed"
    handle: str
    key: Key | None = Field(description="null for what is no handle")
    outcome: Literal["uploaded", "there", "failed"]
    digest: str | None = Field(description="what the store has now; null if it failed")
    archive_bytes: int | None
    code: str | None = Field(description="of the error, if it failed")
    detail: str | None


class FleetPushDone(Answer):
    """The last line."""

    event: Literal["done"] = "done"
    done: Literal[True] = True
    uploaded: int
    there: int
    failed: int


class FleetPruneRequest(Request):
    """What is to go from the store: what nobody fetched or confirmed for so long, by the store's clock."""

    older_than_seconds: float = Field(ge=0)
    dry_run: bool = Field(False, description="only tell")


class FleetPruned(Answer):
    """An object that was chosen."""

    event: Literal["pruned"] = "pruned"
    kind: Literal["record", "archive", "claim"]
    name: str = Field(description="the key of its handle; of an archive the digest")
    handle: str | None = Field(description="of a record")
    size_bytes: int
    age_seconds: float
    removed: bool


class FleetPruneDone(Answer):
    """The last line."""

    event: Literal["done"] = "done"
    done: Literal[True] = True
    removed: int = Field(description="objects that are gone, or would be")
    removed_bytes: int

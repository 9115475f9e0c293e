"""Requests and answers of the socket API: the wire contract and the source of its OpenAPI document.

Law: requests refuse fields that they do not know (a newer client's) and values of another type; answers may gain fields
(clients ignore them).
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from hubclient.contract.credentials import MAX_VALUE_LENGTH, Credential
from hubclient.contract.handles import is_object

MAX_HANDLES_PER_PREFETCH = 1000
MAX_KEYS_PER_VERIFICATION = 10000
MAX_KEYS_PER_USES = 1000

Handle = Annotated[
    str,
    Field(
        min_length=1, max_length=2048, description="a URL of a module: https://, s3://, gs:// or az://; or kaggle:..."
    ),
]
Key = Annotated[
    str,
    Field(
        pattern="^[0-9a-f]{64}$",
        description="hex sha256 of the canonical handle; what is private has another one, and answers to both",
    ),
]
Digest = Annotated[
    str,
    Field(
        pattern="^[0-9a-f]{64}$",
        description="hex sha256 of the archive; of a directory of an object store, the content digest",
    ),
]
Outcome = Literal["hit", "fetched", "joined", "stale"]
CheckOutcome = Literal["intact", "damaged", "repaired", "unrepaired"]
FleetState = Literal["off", "ok", "away", "denied", "missing"]
TierName = Literal["local", "fleet", "mirror", "origin"]
FetchState = Literal["queued", "waiting", "connecting", "transferring", "unpacking", "publishing"]


# Validators are built when a message is first used: the daemon is ready sooner.
class Request(BaseModel):
    # Strict: a false where a number belongs is a mistake, and not 0.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)


class Answer(BaseModel):
    model_config = ConfigDict(frozen=True, defer_build=True)


class OwnCredential(Request):
    """What the caller shows to the handle's host. It is used for this request alone, and never told or stored."""

    type: Literal["bearer", "basic"]
    value: Annotated[SecretStr, Field(min_length=1, max_length=MAX_VALUE_LENGTH)] = Field(
        description="a token, or for basic user:password; printable ASCII"
    )

    @model_validator(mode="after")
    def _can_be_sent(self) -> OwnCredential:
        _ = self.credential  # raises ValueErrors, which do not repeat the value
        return self

    @property
    def credential(self) -> Credential:
        return Credential(self.type, self.value.get_secret_value())


class ResolveRequest(Request):
    """Which module, and what the caller wants to be sure of."""

    handle: Handle
    digest: Annotated[str, Field(pattern="^(sha256:)?[0-9a-f]{64}$")] | None = Field(
        None, description="which content it must be; any other is digest-mismatch"
    )
    refresh: bool = Field(False, description="ask the origin whether the module changed (a conditional request)")
    offline: bool = Field(False, description="answer from the cache alone")
    credential: OwnCredential | None = Field(None, description="the caller's own, for the handle's host alone")

    @model_validator(mode="after")
    def _has_a_host(self) -> ResolveRequest:
        if self.credential is not None and is_object(self.handle):
            raise ValueError("object stores are shown the daemon's own [[credential]], and none of a caller's")
        return self

    @property
    def hex_digest(self) -> str | None:
        return self.digest.removeprefix("sha256:") if self.digest is not None else None


class Resolved(Answer):
    """Where the module is. The daemon holds a lease on it until 10 s after this answer."""

    handle: str = Field(description="the canonical handle")
    key: Key
    digest: Digest
    path: str = Field(description="the SavedModel directory, below the daemon's cache")
    size_bytes: int = Field(description="of the unpacked module")
    outcome: Outcome = Field(description="stale: the origin could not be asked, the copy may be old")
    tier: TierName = Field(description="where the content came from: local is this machine's cache")
    immutable: bool = Field(description="the handle names a version")
    fetched_at: datetime = Field(description="when the origin last confirmed or sent this content")
    warnings: list[str] = Field(default_factory=list)


class Fetch(Answer):
    """A download under way."""

    id: str
    key: Key
    handle: str
    state: FetchState = Field(description="waiting: another machine of the fleet fetches it, whose progress this is")
    tier: TierName | None = Field(None, description="where it comes from, as far as it is known")
    received_bytes: int
    total_bytes: int | None = Field(description="of the archive; null until the origin has said")
    unpacked_bytes: int
    rate_bytes_per_second: float
    eta_seconds: float | None
    trouble: str | None = Field(description="why the last try failed, while the next is waited for; null if none did")
    waiters: int
    is_prefetch: bool = Field(False, description="nobody waits for it")
    users: list[int] = Field(
        default_factory=list, description="the uids that wait for it; only administrators see others than themselves"
    )
    started_at: datetime
    seconds_by_phase: dict[str, float] = Field(
        description="how long it has been at what; unpacking goes on beside the transfer, and counts from its end"
    )


class Problem(Answer):
    """application/problem+json (RFC 9457)."""

    title: str
    status: int
    code: str
    detail: str
    retryable: bool
    retry_after_seconds: int | None = Field(None, description="of too-busy: when it may be over")


class ProgressEvent(Answer):
    """A line of the NDJSON stream, repeated while the fetch goes on."""

    event: Literal["progress"] = "progress"
    fetch: Fetch


class WaitingEvent(Answer):
    """A line that says that the daemon is alive while there is no progress to tell of."""

    event: Literal["waiting"] = "waiting"


class ResolvedEvent(Answer):
    """The last line when all went well."""

    event: Literal["resolved"] = "resolved"
    result: Resolved


class FailedEvent(Answer):
    """The last line when it did not: the problem is the body that the plain answer would have had."""

    event: Literal["failed"] = "failed"
    problem: Problem


class Happened(Answer):
    """A line of the events: what happened, with members of its own.

    ``watching`` comes first; ``lost`` tells how many ``events`` you read too slowly for. ``fetch-started``,
    ``fetch-ended``, ``evicted``, ``damaged``, ``repaired`` name a handle, which is told to whom may know of it.
    """

    model_config = ConfigDict(extra="allow")

    event: str
    at: datetime


class VerifyRequest(Request):
    """Which modules to check, and whether to fetch what is damaged again at once rather than on its next use."""

    keys: Annotated[list[Key], Field(min_length=1, max_length=MAX_KEYS_PER_VERIFICATION)] | None = Field(
        None, description="null: all modules"
    )
    repair: bool = False


class VerifyProgressEvent(Answer):
    """A line of a verification's stream, repeated while it goes on. A tree of several handles is one module here."""

    event: Literal["progress"] = "progress"
    done_bytes: int
    total_bytes: int
    modules_done: int
    modules_total: int


class CheckedEvent(Answer):
    """What was found of one tree."""

    event: Literal["checked"] = "checked"
    digest: Digest
    handles: list[str]
    size_bytes: int
    outcome: CheckOutcome = Field(
        description="damaged: it is not served before its next use repairs it; unrepaired: nor could it be fetched now"
    )
    files: list[str] = Field(description="what differs, is gone or too much, at most 20; `module`: all of it")
    problem: Problem | None = Field(None, description="why it was not repaired")


class VerifiedEvent(Answer):
    """The last line."""

    event: Literal["done"] = "done"
    modules: int
    size_bytes: int
    damaged: int
    repaired: int
    seconds: float


class PrefetchRequest(Request):
    handles: list[Handle] = Field(min_length=1, max_length=MAX_HANDLES_PER_PREFETCH)


class PrefetchAccepted(Answer):
    handle: str
    key: Key | None = Field(description="null for what is no handle")
    id: str | None = Field(description="the fetch to watch; null when the module is there already, or on a problem")
    problem: Problem | None = Field(None, description="why this one was not started")


class Prefetched(Answer):
    fetches: list[PrefetchAccepted]


class UsesRequest(Request):
    """The modules that a client used without asking, for their recency. It may hang up at once: all is counted."""

    keys: list[Key] = Field(min_length=1, max_length=MAX_KEYS_PER_USES)


class Used(Answer):
    counted: int = Field(description="of the keys, those that the cache has")


class Fetches(Answer):
    fetches: list[Fetch]


class Withdrawn(Answer):
    """Who waited was answered `fetch-cancelled`; the fetch ends unless others wait for it too."""

    id: str
    withdrawn: int = Field(description="waiters that had to leave")


class Module(Answer):
    """A cached module."""

    handle: str
    key: Key
    digest: Digest
    path: str
    size_bytes: int
    immutable: bool
    fetched_at: datetime
    last_used_at: datetime
    pinned: bool
    disk_bytes: int = Field(description="what the tree takes on disk, once for all handles that share it")
    leased: bool = Field(description="somebody holds it now, the daemon included")
    shared_with: list[str] = Field(description="the other cached handles of the same content, as far as you may know")
    reader: int | None = Field(None, description="the uid that it is private to; null: everyone may read it")
    pinned_by: list[str] = Field(default_factory=list, description="the prefetch files that pin it")


class Modules(Answer):
    modules: list[Module]
    next: str | None = Field(description="pass as ?after= for the next page; null on the last")


class Signatures(Module):
    """A cached module with what its record and its manifest say of it."""

    origin: str | None = Field(description="the host that sent it, after redirects")
    etag: str | None
    spellings: list[str] = Field(description="of the handle, as asked for")
    users: list[int] = Field(description="the uids that asked for it or reported its use within the last day")
    archive_bytes: int
    content_digest: str
    format: str
    files: dict[str, dict[str, Any]]
    meta_graphs: list[dict[str, Any]]


class Removed(Answer):
    """What the cache no longer has."""

    handle: str
    key: Key
    digest: Digest
    freed_bytes: int = Field(description="on disk; 0 while other handles name the tree")
    shared_with: list[str] = Field(description="the handles that still do")


class PruneRequest(Request):
    """What is to go; at least one of the first two."""

    older_than_seconds: float | None = Field(None, ge=0, description="modules that were not used for so long")
    to_size_bytes: int | None = Field(None, ge=0, description="then the least recently used, down to this size on disk")
    dry_run: bool = Field(False, description="only tell")


class PrunedEvent(Answer):
    """A tree that was chosen, or a broken-off download."""

    event: Literal["pruned"] = "pruned"
    digest: str = Field(description="the tree's digest; of a broken-off download, the key of its handle")
    handles: list[str] = Field(description="empty for a broken-off download")
    size_bytes: int
    disk_bytes: int
    last_used_at: datetime
    removed: bool
    reason: Literal["in-use"] | None = Field(description="why it was not removed")


class PruneDone(Answer):
    """The last line when all went well."""

    event: Literal["done"] = "done"
    modules: int = Field(description="handles that are gone, or would be")
    freed_bytes: int
    used_bytes: int
    dry_run: bool
    pinned_bytes: int
    leased_bytes: int
    in_flight_bytes: int


class CacheStatus(Answer):
    dir: str
    layout: int
    modules: int
    size_bytes: int = Field(description="of all unpacked modules, equal content counted once")
    free_bytes: int = Field(description="of the file system, for the daemon")
    scanned: bool = Field(description="false while start-up still counts: the figures are too small then")
    used_bytes: int = Field(description="on disk or set aside: trees, fetches under way, what is being deleted")
    max_size_bytes: int | None
    min_free_bytes: int
    pinned_bytes: int
    in_flight_bytes: int = Field(description="set aside for fetches under way")
    partial_bytes: int = Field(description="of downloads that were broken off and can be resumed")
    watch: Literal["inotify", "sweep"] = Field(
        description="how removal by others is noticed: at once, or every minute for want of inotify watches"
    )


class Counters(Answer):
    """Since the daemon started."""

    hits: int
    fetched: int
    joined: int
    stale: int
    failed: int
    errors: dict[str, int] = Field(description="of the failed ones, by code")
    received_bytes: int = Field(description="over the network")
    answers_by_tier: dict[str, int] = Field(default_factory=dict, description="where what was answered came from")
    received_by_tier: dict[str, int] = Field(default_factory=dict, description="of `received_bytes`")
    resumed: int = Field(description="fetches that went on from a partial download")
    evicted: int = Field(description="trees")
    evicted_bytes: int = Field(description="on disk")
    uses: int = Field(description="hits that clients answered themselves, and reported")
    damaged: int = Field(description="trees that were found not to be as they were published")
    repaired: int = Field(description="trees whose files were put right again under their name")


class ConfigStatus(Answer):
    """The configuration that holds."""

    file: str | None = Field(description="null: there is none, and the defaults hold")
    loaded_at: datetime
    problem: str | None = Field(description="why the file as it is now was not taken; null when it was")
    restart_needed: list[str] = Field(description="settings that changed in the file, and take a restart")


class PrefetchFileStatus(Answer):
    """A file of `prefetch.dir`."""

    name: str
    state: Literal["ok", "broken", "waiting"] = Field(
        description="waiting: not all of its modules are there; broken: what it said before, if anything, goes on"
    )
    problem: str | None = Field(description="what is wrong with the file; for administrators")
    failure: str | None = Field(description="why one of its modules did not come; for administrators")
    modules: int
    done: int = Field(description="of the modules, those that were there, as they are wanted, when last looked for")
    failed: int = Field(description="of the modules, those whose last try failed; they are tried again")
    pinned: int = Field(description="of the modules, those that it pins")
    next_run_at: datetime | None = Field(description="when something is due next; null: never")


class UserStatus(Answer):
    """What one user has under way, and was answered since the daemon started."""

    uid: int
    fetches: int = Field(description="that it started and that are under way, prefetches included")
    queued: int = Field(description="of these, those that have not had their turn")
    in_flight_bytes: int = Field(description="on disk, set aside for them")
    hits: int = Field(description="answers that the cache had, those that clients found by themselves included")
    answers: int = Field(description="all answers, hits included")


class AccessStatus(Answer):
    level: Literal["user", "admin"] = Field(description="what the asker may")
    restricted: bool = Field(description="only some users may ask for modules")


class FleetUpload(Answer):
    """An archive that this machine uploads for the others."""

    handle: str
    key: Key
    sent_bytes: int
    total_bytes: int


class Fleet(Answer):
    """The fleet's store as this machine sees it, and what it had of it since the daemon started."""

    store: str | None = Field(description="`fleet.store`")
    mode: Literal["read-write", "read-only"] = Field(description="read-only also where the store allows no more")
    state: FleetState = Field(
        description="off: no store is named; away, denied, missing: it cannot be used, and fetches go without it; "
        "denied with the mode read-only: it is read, and takes nothing from this machine"
    )
    trouble: str | None = Field(description="why it cannot be used, or not in full")
    retry_in_seconds: float | None = Field(description="when it is asked again; null: it is asked now")
    uploads: list[FleetUpload] = Field(description="under way, or waiting for their turn")
    found: int = Field(description="fetches that the store had the module for")
    waited: int = Field(description="fetches that waited for another machine's")
    claimed: int = Field(description="fetches that were this machine's to do for all")
    alone: int = Field(description="fetches that went on without the fleet")
    uploaded: int = Field(description="archives")
    downloaded_bytes: int
    uploaded_bytes: int


class Status(Answer):
    version: str
    pid: int
    uid: int
    socket: str
    started_at: datetime
    uptime_seconds: float
    cache: CacheStatus
    fetches: int
    waiters: int
    connections: int
    counters: Counters
    config: ConfigStatus | None
    warnings: list[str]
    prefetch: list[PrefetchFileStatus] = Field(default_factory=list, description="the files of `prefetch.dir`")
    offline: bool = Field(description="network.offline holds: no network is asked")
    queue: int = Field(0, description="fetches that wait for a turn, whoever asked for them")
    access: AccessStatus
    fleet: Fleet | None = Field(None, description="the store that machines share; its state is off where there is none")
    users: list[UserStatus] = Field(default_factory=list, description="an administrator sees all, a user itself")

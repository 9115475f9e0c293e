"""Who fetches for the whole fleet: the object ``claims/<key>.json``, and what a machine that sees one does.

Law: no time that another machine wrote is compared with a clock. A holder shows that it lives by changing its claim; a
claim that has not changed for `claim_timeout` of the watcher's own clock, or whose holder says that it is in no hurry,
is taken over, by a conditional write that only one of many can win.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hubd.config_stores import FleetSettings
from hubd.fleet.bucket import Small, Version

Uniform = Callable[[float, float], float]

FIRST_WAIT_SECONDS = 0.5
_SOON_SECONDS = 5.0  # what comes within it is not worth a second request to the origin
_OF_ELAPSED = 0.15  # where a claim tells how long it will take, what is waited beyond that grows by so much
_OF_ELAPSED_BLINDLY = 0.5
_OF_WAITED_AT_MOST = 0.25
_MAX_DOUBLINGS = 5

# What the origin said of the module, or the store of its archive, and would say to anyone. All else may be the
# holder's own trouble: a full disk.
_WORDS_OF_THE_ORIGIN = ("upstream-", "archive-corrupt", "archive-unsafe", "not-a-module", "digest-mismatch")

Count = Annotated[int, Field(ge=0, lt=1 << 63)]


class Claim(BaseModel):
    """One machine's word that it fetches. `elapsed_seconds`: since the phase began, by the holder's own clock;
    `prefetch`: its own settings hold it back, since no client of its own waits.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    layout: Literal[1] = 1
    holder: Annotated[str, Field(pattern="^[0-9a-f]{16,64}$")]
    beat: Count = 0
    phase: Literal["fetching", "uploading", "failed"] = "fetching"
    received_bytes: Count = 0
    total_bytes: Count | None = None
    elapsed_seconds: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.0
    code: Annotated[str, Field(max_length=64, pattern="^[a-z-]+$")] | None = None
    prefetch: bool = False

    def body(self) -> bytes:
        return self.model_dump_json(exclude_none=True).encode()


class SeenClaim(NamedTuple):
    """What lies where a claim belongs. `claim`: None for what is none, which is waited for like any other."""

    claim: Claim | None
    version: Version
    age_seconds: float


@dataclass(frozen=True)
class Watch:
    """What one watcher has seen so far; all times are of its own monotonic clock."""

    began: float
    version: Version | None = None
    since: float = 0.0  # when the claim of this version was first seen
    waited_for: str | None = None  # the last holder that was seen at work
    refusals: int = 0  # how often the store has asked to be left alone

    def seeing(self, seen: SeenClaim | None, now: float) -> Watch:
        """After one more look."""
        if seen is None:
            return replace(self, version=None)
        at_work = seen.claim is not None and seen.claim.phase != "failed"
        waited_for = seen.claim.holder if seen.claim is not None and at_work else self.waited_for
        since = self.since if seen.version == self.version else now
        return replace(self, version=seen.version, since=since, waited_for=waited_for)


class Create(NamedTuple):
    """Nobody fetches: claim it, if nobody else is quicker."""


class TakeOver(NamedTuple):
    """The holder is dead, has failed or is in no hurry: claim it in its place, if nobody else is quicker."""

    version: Version


class Wait(NamedTuple):
    """Look again after so long."""

    seconds: float


class Alone(NamedTuple):
    """Ask the origin, without the fleet."""

    reason: str


def seen_claim(small: Small) -> SeenClaim:
    try:
        claim = Claim.model_validate_json(small.data)
    except ValidationError:  # somebody's, or a newer version's: it may be alive
        claim = None
    return SeenClaim(claim, small.version, small.age_seconds)


def decide(
    seen: SeenClaim | None,
    watch: Watch,
    now: float,
    terms: FleetSettings,
    *,
    may_write: bool,
    is_urgent: bool,
    uniform: Uniform,
) -> Create | TakeOver | Wait | Alone:
    """What to do about a handle without a record that could be used, by the claim as it was seen just now.

    `watch` has taken that look in already. `is_urgent`: whether a client waits.
    """
    if now - watch.began >= terms.max_wait:
        return Alone(f"another machine has not brought the module within {terms.max_wait:.0f} s (fleet.max_wait)")
    if seen is None:
        return Create() if may_write else Alone("no machine that may write to the store fetches the module")
    unchanged_seconds = now - watch.since
    if seen.claim is not None and seen.claim.phase == "failed":
        code = seen.claim.code or "internal"
        told = f"the machine that fetched it for all failed with {code}"
        if seen.claim.holder != watch.waited_for or not code.startswith(_WORDS_OF_THE_ORIGIN):
            return TakeOver(seen.version) if may_write else Alone(told)
        # All who waited for it learn it at about one time, and are not to ask the origin at one time.
        return Alone(told) if unchanged_seconds > 0 else Wait(uniform(0.0, terms.claim_timeout / 3))
    if unchanged_seconds >= terms.claim_timeout:
        return TakeOver(seen.version) if may_write else Alone("the machine that fetched it for all is gone")
    if is_urgent and may_write and _is_in_no_hurry(seen, watch, now):
        # Of all who see it at about one time the first to look again takes it over, and the others wait for that one.
        return TakeOver(seen.version) if unchanged_seconds > 0 else Wait(uniform(0.0, 2 * FIRST_WAIT_SECONDS))
    return Wait(wait_seconds(seen, watch, now, terms, uniform))


def wait_seconds(seen: SeenClaim, watch: Watch, now: float, terms: FleetSettings, uniform: Uniform) -> float:
    """How long to leave a live claim alone: as long as it says that it will take, and some time beyond that.

    That time is random and grows with the time that the holder has taken, so that the number of looks grows like the
    logarithm of it; and it doubles each time the store refuses to answer, so that a fleet of any size finds a rate that
    its store can bear. Who is late is left alone for as long again, and looked at when it can be taken over.
    """
    unchanged, age = now - watch.since, _age_seconds(seen, watch, now)
    elapsed = age + (seen.claim.elapsed_seconds if seen.claim is not None else 0.0)
    left = left_seconds(seen.claim)
    if left is None:
        left, beyond = 0.0, elapsed * _OF_ELAPSED_BLINDLY
    else:
        left, beyond = max(0.0, left - age), max(elapsed * _OF_ELAPSED, age - left)
    beyond = uniform(0.5, 1.5) * max(FIRST_WAIT_SECONDS, beyond) * 2.0 ** min(watch.refusals, _MAX_DOUBLINGS)
    waited = now - watch.began
    most = terms.claim_timeout - unchanged if unchanged > 0 else terms.claim_timeout + waited * _OF_WAITED_AT_MOST
    seconds = min(left + beyond, most + uniform(0.0, most / 4), terms.max_wait - waited)
    return max(FIRST_WAIT_SECONDS / 2, seconds)


def _is_in_no_hurry(seen: SeenClaim, watch: Watch, now: float) -> bool:
    """Whether the module comes slowly for want of a client where it is fetched, and not soon all the same."""
    if seen.claim is None or not seen.claim.prefetch:
        return False
    left = left_seconds(seen.claim)
    return left is None or left - _age_seconds(seen, watch, now) > _SOON_SECONDS


def _age_seconds(seen: SeenClaim, watch: Watch, now: float) -> float:
    return max(seen.age_seconds, now - watch.since)


def left_seconds(claim: Claim | None) -> float | None:
    """How long the phase was to take yet when the claim was written, by what had come; None: it cannot be told."""
    if claim is None or claim.total_bytes is None or not claim.received_bytes or not claim.elapsed_seconds:
        return None
    left_bytes = max(0, claim.total_bytes - claim.received_bytes)
    return left_bytes * claim.elapsed_seconds / claim.received_bytes

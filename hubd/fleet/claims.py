"""Who fetches for the whole fleet: the object ``claims/<key>.json``, and what a machine that sees one does.

Law: no time that another machine wrote is compared with a clock. A holder shows that it lives by changing its claim; a
claim that has not changed for `claim_timeout` of the watcher's own clock is taken over, by a conditional write that
only one of many can win.
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
_OF_WAITED = 0.15  # where a claim tells how long it will take, what is waited beyond that grows by so much
_OF_WAITED_BLINDLY = 0.5
_OF_WAITED_AT_MOST = 0.25
_MAX_DOUBLINGS = 5

# What the origin said of the module, and would say to anyone. All else may be the holder's own trouble: a full disk.
_WORDS_OF_THE_ORIGIN = ("upstream-", "archive-corrupt", "archive-unsafe", "not-a-module", "digest-mismatch")

Count = Annotated[int, Field(ge=0, lt=1 << 63)]


class Claim(BaseModel):
    """One machine's word that it fetches. `elapsed_seconds`: since the phase began, by the holder's own clock."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    layout: Literal[1] = 1
    holder: Annotated[str, Field(pattern="^[0-9a-f]{16,64}$")]
    beat: Count = 0
    phase: Literal["fetching", "uploading", "failed"] = "fetching"
    received_bytes: Count = 0
    total_bytes: Count | None = None
    elapsed_seconds: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 0.0
    code: Annotated[str, Field(max_length=64, pattern="^[a-z-]+$")] | None = None

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
    holder_since: float | None = None  # when it was first seen
    refusals: int = 0  # how often the store has asked to be left alone

    def seeing(self, seen: SeenClaim | None, now: float) -> Watch:
        """After one more look."""
        if seen is None:
            return replace(self, version=None)
        at_work = seen.claim is not None and seen.claim.phase != "failed"
        waited_for = seen.claim.holder if seen.claim is not None and at_work else self.waited_for
        holder_since = self.holder_since if waited_for == self.waited_for else now
        since = self.since if seen.version == self.version else now
        return Watch(self.began, seen.version, since, waited_for, holder_since, self.refusals)


class Create(NamedTuple):
    """Nobody fetches: claim it, if nobody else is quicker."""


class TakeOver(NamedTuple):
    """The holder is dead or has failed: claim it in its place, if nobody else is quicker."""

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
    seen: SeenClaim | None, watch: Watch, now: float, terms: FleetSettings, *, may_write: bool, uniform: Uniform
) -> Create | TakeOver | Wait | Alone:
    """What to do about a handle without a record that could be used, by the claim as it was seen just now.

    `watch` has taken that look in already.
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
    return Wait(wait_seconds(seen, watch, now, terms, uniform))


def wait_seconds(seen: SeenClaim, watch: Watch, now: float, terms: FleetSettings, uniform: Uniform) -> float:
    """How long to leave a live claim alone: as long as it says that it will take, and some time beyond that.

    That time is random and grows with what was waited for this holder already, so that the number of looks grows like
    the logarithm of the time; and it doubles each time the store refuses to answer, so that a fleet of any size finds a
    rate that its store can bear. A claim that has not changed is left alone twice as long each time, until it can be
    taken over.
    """
    waited = now - (watch.began if watch.holder_since is None else watch.holder_since)
    unchanged = now - watch.since
    eta = eta_seconds(seen)
    beyond = max(FIRST_WAIT_SECONDS, waited * (_OF_WAITED_BLINDLY if eta is None else _OF_WAITED), unchanged)
    beyond = uniform(0.5, 1.5) * beyond * 2.0 ** min(watch.refusals, _MAX_DOUBLINGS)
    most = terms.claim_timeout - unchanged if unchanged > 0 else terms.claim_timeout + waited * _OF_WAITED_AT_MOST
    left = watch.began + terms.max_wait - now
    return max(FIRST_WAIT_SECONDS / 2, min((eta or 0.0) + beyond, most + uniform(0.0, most / 4), left))


def eta_seconds(seen: SeenClaim) -> float | None:
    """How long the holder's phase will still take, by what it brought so far; None: it cannot be told."""
    claim = seen.claim
    if claim is None or claim.total_bytes is None or not claim.received_bytes or not claim.elapsed_seconds:
        return None
    left_bytes = max(0, claim.total_bytes - claim.received_bytes)
    return max(0.0, left_bytes * claim.elapsed_seconds / claim.received_bytes - seen.age_seconds)

"""`hubctl prefetch`: have modules fetched before they are needed.

Law: all of them are asked for before any is waited for, so that they come even when the waiting is cut short.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from hubclient import locking
from hubclient.cli.asking import Report
from hubclient.cli.get import is_offline
from hubclient.cli.output import emit, emit_json, exit_code_of_all, say
from hubclient.cli.prefetch_files import expand
from hubclient.cli.resolving import resolve_all, tell
from hubclient.cli.wording import printable
from hubclient.contract.errors import HubError, from_problem
from hubclient.contract.prefetch_file import Wanted
from hubclient.locking import Demand

if TYPE_CHECKING:
    from hubclient.daemon import Daemon

HANDLES_PER_REQUEST = 100  # well below the limits of the API on handles and on bytes


def prefetch(daemon: Daemon, arguments: Sequence[str], *, wait: bool, as_json: bool) -> int:
    """Start the fetches, print one line for each, and with `wait` stay until all have ended; the exit code.

    Digests are compared with `wait`: what has not come yet has none. With ``HUBD_OFFLINE`` nothing is started: what is
    not cached is the error `offline`. Raises `RequestInvalid` for arguments that contradict each other.
    """
    wanted, errors, notes = expand(arguments)
    handles = list(dict.fromkeys([*wanted, *errors]))
    demanding = [handle for handle, one in wanted.items() if one.digest is not None]
    if demanding and not wait:
        notes.append("digests are compared only with --wait")
    for note in () if as_json else notes:
        say(f"hubctl: {note}")
    results: dict[str, dict[str, Any]] = {}
    asked = list(wanted)
    accepted: dict[str, dict[str, Any]] = {}
    if is_offline(os.environ):
        looked = resolve_all(asked, partial(_look, daemon, wanted), quiet=False, as_json=as_json)
        accepted = {handle: {"key": one["key"], "id": None} for handle, one in looked.results.items()}
        errors |= looked.errors
        asked, demanding = [], []
    for start in range(0, len(asked), HANDLES_PER_REQUEST):
        answer = daemon.post("/v1/prefetch", {"handles": asked[start : start + HANDLES_PER_REQUEST]})
        accepted |= {one["handle"]: one for one in answer["fetches"]}
    errors |= {handle: from_problem(one["problem"]) for handle, one in accepted.items() if one.get("problem")}
    outcomes = {handle: "started" if one["id"] else "cached" for handle, one in accepted.items()}
    pending = [handle for handle in asked if outcomes.get(handle) == "started" or handle in demanding]
    if wait and (pending := [handle for handle in pending if handle not in errors]):
        try:
            ended = resolve_all(pending, partial(_ask, daemon, wanted, outcomes), quiet=False, as_json=as_json)
        except KeyboardInterrupt:
            say("hubctl: no longer waiting; the daemon goes on fetching")
            raise
        results = ended.results
        errors |= ended.errors
        outcomes |= {
            handle: "cached" if result["outcome"] == "hit" else result["outcome"] for handle, result in results.items()
        }
    outcomes |= dict.fromkeys(errors, "failed")
    tell(results, errors, as_json=as_json)
    _print(handles, accepted, outcomes, errors, as_json=as_json)
    return exit_code_of_all(errors.values())


def _print(
    handles: Sequence[str],
    accepted: Mapping[str, dict[str, Any]],
    outcomes: Mapping[str, str],
    errors: Mapping[str, HubError],
    *,
    as_json: bool,
) -> None:
    if as_json:
        unknown = {"key": None, "id": None}
        rows = [
            {"handle": handle, **unknown, **accepted.get(handle, {}), "outcome": outcomes[handle]}
            | {"problem": errors[handle].problem() if handle in errors else None}
            for handle in handles
        ]
        emit_json({"fetches": rows})
        return
    said = {handle: accepted[handle]["id"] if outcome == "started" else outcome for handle, outcome in outcomes.items()}
    width = max(map(len, said.values()))
    emit("".join(f"{said[handle]:<{width}}  {printable(handle)}\n" for handle in handles))


def _look(daemon: Daemon, wanted: Mapping[str, Wanted], handle: str, report: Report) -> dict[str, Any]:
    return locking.resolve(daemon, handle, _demand(wanted[handle]), offline=True, progress=report)


def _ask(
    daemon: Daemon, wanted: Mapping[str, Wanted], before: Mapping[str, str], handle: str, report: Report
) -> dict[str, Any]:
    result = locking.resolve(daemon, handle, _demand(wanted[handle]), progress=report)
    if result["outcome"] == "stale" or (result["outcome"] == "hit" and before[handle] == "cached"):
        return result
    # The fetch is one that we began: to have joined it, or to come after its end, is no news.
    return result | {"outcome": "fetched"}


def _demand(one: Wanted) -> Demand:
    return Demand(one.digest, one.content_digest)

"""`hubctl prefetch`: have modules fetched before they are needed.

Law: all of them are asked for before any is waited for, so that they come even when the waiting is cut short.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from hubclient.cli.asking import Report
from hubclient.cli.get import is_offline
from hubclient.cli.output import emit, emit_json, exit_code_of_all, say
from hubclient.cli.resolving import resolve_all, tell
from hubclient.cli.wording import printable
from hubclient.contract.errors import HandleInvalid, HubError, from_problem
from hubclient.contract.handles import canonical, is_path

if TYPE_CHECKING:
    from hubclient.daemon import Daemon

HANDLES_PER_REQUEST = 100  # well below the limits of the API on handles and on bytes


def prefetch(daemon: Daemon, handles: Sequence[str], *, wait: bool, as_json: bool) -> int:
    """Start the fetches, print one line for each, and with `wait` stay until all have ended; the exit code.

    With ``HUBD_OFFLINE`` none is started: what is not cached is the error `offline`.
    """
    results: dict[str, dict[str, Any]] = {}
    errors: dict[str, HubError] = {}
    for handle in dict.fromkeys(handles):
        try:
            _require_url(handle)
        except HandleInvalid as error:  # the daemon would refuse the others with it
            errors[handle] = error
    asked = [handle for handle in dict.fromkeys(handles) if handle not in errors]
    accepted: dict[str, dict[str, Any]] = {}
    if is_offline(os.environ):
        looked = resolve_all(asked, partial(_look, daemon), quiet=False, as_json=as_json)
        accepted = {handle: {"key": one["key"], "id": None} for handle, one in looked.results.items()}
        errors |= looked.errors
        asked = []
    for start in range(0, len(asked), HANDLES_PER_REQUEST):
        answer = daemon.post("/v1/prefetch", {"handles": asked[start : start + HANDLES_PER_REQUEST]})
        accepted |= {one["handle"]: one for one in answer["fetches"]}
    errors |= {handle: from_problem(one["problem"]) for handle, one in accepted.items() if one.get("problem")}
    outcomes = {handle: "started" if one["id"] else "cached" for handle, one in accepted.items()}
    if wait and (pending := [handle for handle, outcome in outcomes.items() if outcome == "started"]):
        try:
            ended = resolve_all(pending, partial(_ask, daemon), quiet=False, as_json=as_json)
        except KeyboardInterrupt:
            say("hubctl: no longer waiting; the daemon goes on fetching")
            raise
        results = ended.results
        errors |= ended.errors
        outcomes |= {handle: str(result["outcome"]) for handle, result in results.items()}
    outcomes |= dict.fromkeys(errors, "failed")
    tell(results, errors, as_json=as_json)
    _print(list(dict.fromkeys(handles)), accepted, outcomes, errors, as_json=as_json)
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


def _require_url(handle: str) -> None:
    if is_path(handle):
        raise HandleInvalid("this is a path: there is nothing to fetch")
    canonical(handle)


def _look(daemon: Daemon, handle: str, report: Report) -> dict[str, Any]:
    return daemon.resolve(handle, offline=True, progress=report)


def _ask(daemon: Daemon, handle: str, report: Report) -> dict[str, Any]:
    result = daemon.resolve(handle, progress=report)
    # The fetch is one that we began: to have joined it, or to come after its end, is no news.
    return result if result["outcome"] == "stale" else result | {"outcome": "fetched"}

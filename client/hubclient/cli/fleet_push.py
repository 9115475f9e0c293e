"""`hubctl fleet push`, and what `hubctl sync --to-store` shares with it: modules into the fleet's store.

Law: each handle has one outcome, and one that fails keeps no other from being uploaded.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hubclient.cli.asking import Answered, Failed, Progress, Report, ask_all
from hubclient.cli.display import Silent, display_for
from hubclient.cli.fleet import plain, store_of
from hubclient.cli.output import emit, emit_json, exit_code_of_all, say
from hubclient.cli.resolving import tell
from hubclient.cli.wording import count, printable, size
from hubclient.contract.errors import HandleInvalid, HubError, from_problem
from hubclient.contract.handles import canonical, is_path, key

if TYPE_CHECKING:
    from hubclient.daemon import Daemon

HANDLES_PER_REQUEST = 100  # well below the limits of the API on handles and on bytes
LOOK_EVERY_SECONDS = 1.0
_OUTCOMES = ("uploaded", "there", "failed")
_WIDTH = max(map(len, _OUTCOMES))


def push(daemon: Daemon, handles: Sequence[str], *, quiet: bool, as_json: bool) -> int:
    """Have the store hold each, and print what came of it; the exit code."""
    store = store_of(daemon)["store"]
    errors: dict[str, HubError] = {}
    wanted: dict[str, str] = {}  # by the canonical handle: as it was spelt
    for handle in handles:
        try:
            wanted.setdefault(_fetched(handle), handle)
        except HandleInvalid as error:
            errors[handle] = error
    outcomes = push_all(daemon, list(wanted), quiet=quiet, as_json=as_json)
    errors |= {wanted[one]: why for one, outcome in outcomes.items() if (why := error_of(outcome)) is not None}
    tell({}, errors, as_json=as_json)
    if as_json:
        emit_json({"pushed": list(outcomes.values()), "summary": _sum(outcomes)})
    elif outcomes:
        emit("".join(f"{outcome['outcome']:<{_WIDTH}}  {printable(one)}\n" for one, outcome in outcomes.items()))
    if not quiet and not as_json:
        say(f"{summary(outcomes)}, {store}")
    return exit_code_of_all(errors.values())


def push_all(daemon: Daemon, handles: Sequence[str], *, quiet: bool, as_json: bool) -> dict[str, dict[str, Any]]:
    """What came of each handle (canonical ones, none twice), with a display on stderr. Raises the daemon's errors."""
    outcomes: dict[str, dict[str, Any]] = {}
    batches = {
        str(start): list(handles[start : start + HANDLES_PER_REQUEST])
        for start in range(0, len(handles), HANDLES_PER_REQUEST)
    }
    places = {handle: place for place, handle in enumerate(handles)}
    started = looked = time.monotonic()

    def ask(batch: str, report: Report) -> dict[str, Any]:
        return daemon.listen("/v1/fleet/push", {"handles": batches[batch]}, report)

    with display_for(handles, quiet=quiet, as_json=as_json) as display:
        looking = _Looking(daemon, places)
        for event in ask_all(list(batches), ask, at_once=1):
            match event:
                case Progress(_, outcome) if outcome.get("outcome") in _OUTCOMES:
                    # A daemon that died in the middle is asked again: what it had uploaded is there by now.
                    if (handle := outcome["handle"]) in places and handle not in outcomes:
                        outcomes[handle] = plain(outcome)
                        error = error_of(outcome)
                        seconds = time.monotonic() - started
                        place = places[handle]
                        display.show(Answered(place, outcome, seconds) if error is None else Failed(place, error))
                case Failed(_, error):
                    raise error
                case None if (now := time.monotonic()) - looked >= LOOK_EVERY_SECONDS:
                    looked = now
                    looking.show(display, outcomes)
            display.show(None)
    return {handle: outcomes[handle] for handle in handles if handle in outcomes}


def error_of(outcome: dict[str, Any]) -> HubError | None:
    """Why a module is not in the store; None: it is."""
    return from_problem(outcome) if outcome["outcome"] == "failed" else None


def summary(outcomes: dict[str, dict[str, Any]]) -> str:
    """`3 of 4 modules in the store, 2 of them new: 372.0 MB sent`."""
    numbers = _sum(outcomes)
    sent = sum(one.get("archive_bytes") or 0 for one in outcomes.values() if one["outcome"] == "uploaded")
    new = f", {numbers['uploaded']:,} of them new: {size(sent)} sent" if numbers["uploaded"] else ""
    return f"{numbers['uploaded'] + numbers['there']:,} of {count(len(outcomes), 'module')} in the store{new}"


class _Looking:
    """What the daemon does meanwhile: fetches of the modules that it has not, and uploads."""

    def __init__(self, daemon: Daemon, places: dict[str, int]) -> None:
        self._daemon = daemon
        self._places = {key(handle): (handle, place) for handle, place in places.items()}
        self._sent: dict[str, tuple[float, int]] = {}

    def show(self, display: Silent, ended: dict[str, Any]) -> None:
        """Show how far each is that has not ended."""
        try:
            under_way = [
                *self._daemon.get("/v1/fetches")["fetches"],
                *map(self._as_fetch, self._daemon.get("/v1/fleet")["uploads"]),
            ]
        except HubError:
            return  # a display only shows; the question itself hears of it
        for fetch in under_way:
            handle, place = self._places.get(fetch["key"], ("", 0))
            if handle and handle not in ended:
                display.show(Progress(place, fetch))

    def _as_fetch(self, upload: dict[str, Any]) -> dict[str, Any]:
        """An upload in the shape of the API's Fetch."""
        one, sent, now = upload["key"], upload["sent_bytes"], time.monotonic()
        before, sent_before = self._sent.setdefault(one, (now, sent))
        self._sent[one] = (now, sent)
        speed = (sent - sent_before) / (now - before) if now > before else 0.0
        left = (upload["total_bytes"] or 0) - sent
        return {
            "id": one,
            "key": one,
            "state": "uploading",
            "received_bytes": sent,
            "total_bytes": upload["total_bytes"],
            "unpacked_bytes": 0,
            "rate_bytes_per_second": speed,
            "eta_seconds": left / speed if speed > 0 else None,
            "trouble": None,
        }


def _sum(outcomes: dict[str, dict[str, Any]]) -> dict[str, int]:
    told = [one["outcome"] for one in outcomes.values()]
    return {outcome: told.count(outcome) for outcome in _OUTCOMES}


def _fetched(handle: str) -> str:
    if is_path(handle):
        raise HandleInvalid("this is a path: the store holds modules that are fetched")
    return canonical(handle)

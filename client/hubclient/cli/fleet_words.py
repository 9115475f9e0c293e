"""How the API's Fleet is said: what `hubctl fleet status` and `hubctl status` share. Pure functions.

Law: a store that is away is never said to be a disaster: what it does not give comes from the origins.
"""

from __future__ import annotations

from typing import Any

from hubclient.cli.troubles import STORE_STATES
from hubclient.cli.wording import count, size


def summary(fleet: dict[str, Any]) -> str:
    """The store and what came of it, in one line."""
    return (
        f"{fleet['store']}, {fleet['mode']}, {_state(fleet)}; {fleet['found']:,} found, {fleet['uploaded']:,} uploaded"
    )


def rows(fleet: dict[str, Any]) -> list[tuple[str, str]]:
    """What there is to know of it, each with what it is about, empty for more of the same."""
    waited = f"; another machine was waited for {_times(fleet['waited'])}" if fleet["waited"] else ""
    told = [
        ("store", f"{fleet['store']}, {fleet['mode']}, {_state(fleet)}"),
        ("from it", f"{fleet['found']:,} found, {size(fleet['downloaded_bytes'])} received{waited}"),
        ("to it", f"{fleet['uploaded']:,} uploaded, {size(fleet['uploaded_bytes'])} sent"),
        (
            "origins",
            f"{count(fleet['claimed'], 'fetch')} for the whole fleet, {fleet['alone']:,} for this machine alone",
        ),
    ]
    for place, upload in enumerate(fleet["uploads"]):
        told.append(("" if place else "uploading", f"{upload['handle']}{_how_far(upload)}"))
    return told


def _state(fleet: dict[str, Any]) -> str:
    state = str(fleet["state"])
    return STORE_STATES.get(state, "answers" if state == "ok" else state)


def _how_far(upload: dict[str, Any]) -> str:
    """`, 45% of 186.0 MB`."""
    total = upload["total_bytes"]
    return f", {min(1.0, upload['sent_bytes'] / total):.0%} of {size(total)}" if total else ""


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number:,} times"

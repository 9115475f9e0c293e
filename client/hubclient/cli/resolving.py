"""Many handles to their ends, on display: what `get` and `prefetch --wait` share.

Law: one failure spoils nothing; the other handles go on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hubclient.cli.asking import Answered, Ask, Failed, ask_all
from hubclient.cli.display import display_for
from hubclient.cli.output import complain, say
from hubclient.contract.errors import HubError


class Ended(NamedTuple):
    """What came of each handle: an answer or an error."""

    results: dict[str, dict[str, Any]]
    errors: dict[str, HubError]


def resolve_all(handles: Sequence[str], ask: Ask, *, quiet: bool, as_json: bool) -> Ended:
    """Ask for each handle (none twice) with a display on stderr."""
    ended = Ended({}, {})
    with display_for(handles, quiet=quiet, as_json=as_json) as display:
        for event in ask_all(handles, ask):
            display.show(event)
            match event:
                case Answered(index, result, _):
                    ended.results[handles[index]] = result
                case Failed(index, error):
                    ended.errors[handles[index]] = error
    return ended


def tell(results: Mapping[str, dict[str, Any]], errors: Mapping[str, HubError], *, as_json: bool) -> None:
    """Pass the warnings of answers on (in JSON they are in the answers), and complain of errors, of none twice."""
    for result in results.values():
        for warning in () if as_json else result["warnings"]:
            say(f"hubctl: warning: {warning}")
    handles_of: dict[int, list[str]] = {}
    for handle, error in errors.items():
        handles_of.setdefault(id(error), []).append(handle)
    for handles in handles_of.values():
        complain(errors[handles[0]], as_json=as_json, handle=handles[0] if len(handles) == 1 else None)

"""`hubctl sync`: everything that a lock file names is in the cache, and is what it says.

Law: the exit code is 0 only if all of it is; and one module that is not keeps no other from coming.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hubclient import locking
from hubclient.cli.asking import Report
from hubclient.cli.get import is_offline
from hubclient.cli.output import emit, emit_json, exit_code_of_all, say
from hubclient.cli.resolving import resolve_all, tell
from hubclient.cli.wording import count, printable
from hubclient.contract import lock_file
from hubclient.locking import Demand

if TYPE_CHECKING:
    from hubclient.daemon import Daemon

_WORDS = {"hit": "cached", "joined": "fetched"}


def sync(reach: Callable[[], Daemon], file: str, *, quiet: bool, as_json: bool) -> int:
    """Fetch and check all modules of the lock file; the exit code."""
    locked = {one.handle: one for one in lock_file.read(file).values()}
    daemon = reach()

    def ask(handle: str, report: Report) -> dict[str, Any]:
        demand = Demand(locked[handle].digest, locked[handle].content_digest)
        return locking.resolve(daemon, handle, demand, offline=is_offline(os.environ), progress=report)

    results, errors = resolve_all(list(locked), ask, quiet=quiet, as_json=as_json)
    tell(results, errors, as_json=as_json)
    outcomes = {handle: _WORDS.get(answer["outcome"], answer["outcome"]) for handle, answer in results.items()}
    outcomes |= dict.fromkeys(errors, "failed")
    if as_json:
        told = ("key", "digest", "path")
        rows = [
            {"handle": handle, **{name: results.get(handle, {}).get(name) for name in told}}
            | {"outcome": outcomes[handle], "problem": errors[handle].problem() if handle in errors else None}
            for handle in locked
        ]
        emit_json({"lock": file, "modules": rows})
    elif locked:
        width = max(map(len, outcomes.values()))
        emit("".join(f"{outcomes[handle]:<{width}}  {printable(handle)}\n" for handle in locked))
    if not quiet and not as_json:
        say(f"{len(results):,} of {count(len(locked), 'module')} as {file} says")
    return exit_code_of_all(errors.values())

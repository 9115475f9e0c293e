"""`hubctl sync`: what a lock file names is in the cache, and is what it says; if asked, in the store of the fleet too.

Law: the exit code is 0 only if all of it is; one module that is not keeps no other from coming, and goes to no store.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from hubclient import locking
from hubclient.cli import fleet_push
from hubclient.cli.asking import Report
from hubclient.cli.fleet import store_of
from hubclient.cli.get import is_offline
from hubclient.cli.output import emit, emit_json, exit_code_of_all, say
from hubclient.cli.resolving import resolve_all, tell
from hubclient.cli.wording import count, printable
from hubclient.contract import lock_file
from hubclient.contract.errors import DigestMismatch, HubError
from hubclient.contract.handles import is_object
from hubclient.contract.lock_file import Locked
from hubclient.locking import Demand

if TYPE_CHECKING:
    from hubclient.daemon import Daemon

_WORDS = {"hit": "cached", "joined": "fetched"}


def sync(reach: Callable[[], Daemon], file: str, *, to_store: bool, quiet: bool, as_json: bool) -> int:
    """Fetch and check all modules of the lock file, and `to_store` also upload them; the exit code."""
    locked = {one.handle: one for one in lock_file.read(file).values()}
    daemon = reach()
    store = store_of(daemon)["store"] if to_store else None

    def ask(handle: str, report: Report) -> dict[str, Any]:
        demand = Demand(locked[handle].digest, locked[handle].content_digest)
        return locking.resolve(daemon, handle, demand, offline=is_offline(os.environ), progress=report)

    results, errors = resolve_all(list(locked), ask, quiet=quiet, as_json=as_json)
    outcomes = {handle: _WORDS.get(answer["outcome"], answer["outcome"]) for handle, answer in results.items()}
    outcomes |= dict.fromkeys(errors, "failed")
    wanted = [handle for handle in locked if to_store and handle in results and not is_object(handle)]
    stored = fleet_push.push_all(daemon, wanted, quiet=quiet, as_json=as_json) if wanted else {}
    errors |= {
        handle: error
        for handle, outcome in stored.items()
        if (error := _why_not(outcome, locked[handle], results[handle]["digest"])) is not None
    }
    tell(results, errors, as_json=as_json)
    if as_json:
        told = ("key", "digest", "path")
        rows = [
            {"handle": handle, **{name: results.get(handle, {}).get(name) for name in told}}
            | {"outcome": outcomes[handle], "problem": errors[handle].problem() if handle in errors else None}
            | ({"stored": stored[handle]["outcome"] if handle in stored else None} if to_store else {})
            for handle in locked
        ]
        emit_json({"lock": file, "modules": rows})
    elif locked:
        words = {h: "failed" if h in errors else stored[h]["outcome"] if h in stored else outcomes[h] for h in locked}
        width = max(map(len, words.values()))
        emit("".join(f"{words[handle]:<{width}}  {printable(handle)}\n" for handle in locked))
    if not quiet and not as_json:
        say(f"{len(results):,} of {count(len(locked), 'module')} as {file} says")
        if store is not None:
            say(f"{fleet_push.summary(stored)}, {store}")
    return exit_code_of_all(errors.values())


def _why_not(outcome: dict[str, Any], locked: Locked, digest: str) -> HubError | None:
    """Why the store does not hold what is demanded; None: it does. `digest`: of what was found to be as demanded."""
    if (error := fleet_push.error_of(outcome)) is not None:
        return error
    if (there := outcome.get("digest")) not in (None, locked.digest, digest):
        return DigestMismatch(f"the fleet's store has the archive {there} under it, and {locked.digest} is demanded")
    return None

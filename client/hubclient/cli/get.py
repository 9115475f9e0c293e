"""`hubctl get`: from handles to paths.

Law: a daemon is asked only for what the cache cannot answer, and each path is leased from before it is known until
it has been printed, or for as long as the program runs that it is given to.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from hubclient import finding, local, locking, resolving
from hubclient.cache import Cache, Tree
from hubclient.cli.asking import Report
from hubclient.cli.output import emit, emit_json, exit_code_of_all, hit_line, say
from hubclient.cli.reaching import reach_aloud
from hubclient.cli.resolving import Ended, resolve_all, tell
from hubclient.contract.errors import CacheUnreachable, DaemonUnreachable, HubError, Offline
from hubclient.contract.handles import canonical, is_immutable, is_path, key
from hubclient.contract.lease import Lease
from hubclient.daemon import Daemon

# With a copy at hand that may be old, a daemon is waited for no longer than its restart takes.
STALE_TIMEOUT_SECONDS = 2.0


def is_offline(environ: Mapping[str, str]) -> bool:
    """Whether ``HUBD_OFFLINE`` says that nothing may be fetched."""
    return environ.get("HUBD_OFFLINE", "0") not in ("", "0")


class Wish(NamedTuple):
    """What the caller wants to be sure of, as in the API's ResolveRequest."""

    digest: str | None = None
    refresh: bool = False
    offline: bool = False


class Answers(NamedTuple):
    """What came of each handle: an answer or an error; and the leases on what is in the cache.

    Nobody releases the leases: they end with this process, or with the program that it becomes.
    """

    results: dict[str, dict[str, Any]]
    errors: dict[str, HubError]
    leases: dict[str, Lease]


def get(handles: Sequence[str], wish: Wish, *, quiet: bool, as_json: bool) -> int:
    """Print the path of each handle, or all that is known of it; the exit code."""
    found = find(handles, wish, quiet=quiet, tell_hits=True, as_json=as_json)
    answers = [found.results[handle] for handle in handles if handle in found.results]
    if as_json and answers:
        emit_json(answers if len(handles) > 1 else answers[0])
    elif answers:
        emit("".join(answer["path"] + "\n" for answer in answers))
    return exit_code_of_all(found.errors.values())


def bring(handle: str, *, quiet: bool, as_json: bool) -> None:
    """Have the module in the cache, with a display on stderr while it is downloaded; raises its error."""
    found = find([handle], Wish(offline=is_offline(os.environ)), quiet=quiet, as_json=as_json, complain=False)
    for error in found.errors.values():
        raise error


def find(
    handles: Sequence[str],
    wish: Wish,
    *,
    quiet: bool,
    as_json: bool,
    tell_hits: bool = False,
    complain: bool = True,
) -> Answers:
    """Ask the cache, and for the rest the daemon, with a display on stderr; pass warnings on, and complain of errors.

    `tell_hits`: say also of what was there already that it was.
    """
    found = Answers({}, {}, {})
    for handle in dict.fromkeys(handles):
        started = time.monotonic()
        try:
            answer = _without_daemon(handle, wish, found.leases)
        except HubError as error:
            found.errors[handle] = error
            continue
        if answer is not None:
            found.results[handle] = answer
            if tell_hits and answer["outcome"] == "hit" and not quiet and not as_json:
                say(hit_line(handle, time.monotonic() - started))
    asked = [handle for handle in dict.fromkeys(handles) if handle not in found.results and handle not in found.errors]
    if asked:
        ended = _from_daemon(asked, wish, found.leases, quiet=quiet, as_json=as_json)
        found.results.update(ended.results)
        found.errors.update(ended.errors)
    tell(found.results, found.errors if complain else {}, as_json=as_json)
    return found


def copy_in_cache(handle: str, wish: Wish | None = None) -> Tree | None:
    """The module in the cache, leased, fresh or not, if it is what is wished for; without a wish, whatever there is."""
    place = finding.find(os.environ)
    if place.cache is None or (wish is not None and wish.refresh):
        return None
    tree = Cache(place.cache, finding.trusted_uids(os.environ, place)).look(key(canonical(handle)))
    if tree is None or wish is None or resolving.is_demanded(resolving.demand_of(handle, wish.digest), tree):
        return tree
    tree.lease.release()
    return None


def _without_daemon(handle: str, wish: Wish, leases: dict[str, Lease]) -> dict[str, Any] | None:
    if is_path(handle):
        unknown = dict.fromkeys(("key", "digest", "size_bytes", "tier", "immutable", "fetched_at"))
        path = local.module_directory(handle, wish.digest)
        return {"handle": handle, "path": path, "outcome": "local", "warnings": [], **unknown}
    if wish.refresh:
        resolving.demand_of(handle, wish.digest)  # what is no handle, or may not be used, is refused alone
        return None
    held = resolving.look(handle, digest=wish.digest)
    if held is None:
        return None
    if held.lease is not None:
        leases[handle] = held.lease
    return _cached(handle, held.path)


def _from_daemon(handles: Sequence[str], wish: Wish, leases: dict[str, Lease], *, quiet: bool, as_json: bool) -> Ended:
    """What the daemon answers; if there is none, copies that are whole but may be old, with a warning."""
    environ = dict(os.environ)
    copies: dict[str, Tree] = {}
    ended = Ended({}, {})
    try:
        copies |= {handle: tree for handle in handles if (tree := copy_in_cache(handle, wish)) is not None}
        if wish.offline:  # a running daemon knows more than its views tell, but none is waited for or started
            environ |= {"HUBD_AUTOSTART": "0", "HUBD_TIMEOUT": "0"}
        elif len(copies) == len(handles):
            environ["HUBD_TIMEOUT"] = str(min(STALE_TIMEOUT_SECONDS, finding.timeout_seconds(environ)))
        daemon = reach_aloud(environ, quiet=quiet or as_json)
    except HubError as error:  # the other handles, which need no daemon, are answered all the same
        ended.errors.update(dict.fromkeys(handles, error))
    else:
        ended = resolve_all(handles, partial(_ask, daemon, wish, leases), quiet=quiet, as_json=as_json)
    for handle in [handle for handle in handles if isinstance(ended.errors.get(handle), DaemonUnreachable)]:
        if handle in copies:
            del ended.errors[handle]
            leases[handle] = copies[handle].lease
            stale = {
                "outcome": "stale",
                "warnings": [f"{handle} may be out of date: nobody was asked, as no daemon answers"],
            }
            ended.results[handle] = _cached(handle, copies[handle].path) | stale
        elif wish.offline:
            ended.errors[handle] = Offline("the module is not in the cache, or not as asked for; nobody else is asked")
    return ended


def _ask(daemon: Daemon, wish: Wish, leases: dict[str, Lease], handle: str, report: Report) -> dict[str, Any]:
    demand = resolving.demand_of(handle, wish.digest)
    result = locking.resolve(daemon, handle, demand, refresh=wish.refresh, offline=wish.offline, progress=report)
    path = str(result["path"])
    root = os.path.dirname(os.path.dirname(os.path.dirname(path)))
    try:
        # The daemon's own lease ends 10 s after its answer, and others may take longer.
        leases[handle] = Cache(root, finding.trusted_uids(os.environ, daemon.place)).take(result["digest"]).lease
    except OSError as error:
        raise CacheUnreachable(
            f"the daemon has the module at {path}, which cannot be used from here ({error}): mount its cache at the "
            "same path"
        ) from error
    return result


def _cached(handle: str, path: str) -> dict[str, Any]:
    """The API's Resolved as far as the cache tells it."""
    plain = canonical(handle)
    return {
        "handle": plain,
        "key": key(plain),
        "digest": os.path.basename(os.path.dirname(path)),
        "path": path,
        "size_bytes": None,
        "outcome": "hit",
        "tier": "local",
        "immutable": is_immutable(plain),
        "fetched_at": None,
        "warnings": [],
    }

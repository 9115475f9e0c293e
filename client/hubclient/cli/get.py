"""`hubctl get`: from handles to paths.

Law: a daemon is asked only for what the cache cannot answer, and each path is leased from before it is known until
it has been printed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from hubclient import finding, local, resolving
from hubclient.cache import Cache, Tree
from hubclient.cli.asking import Report
from hubclient.cli.output import emit, emit_json, exit_code_of_all, hit_line, say
from hubclient.cli.reaching import reach_aloud
from hubclient.cli.resolving import Ended, resolve_all, tell
from hubclient.contract.errors import CacheUnreachable, DaemonUnreachable, HubError, Offline
from hubclient.contract.handles import canonical, is_immutable, is_path, key
from hubclient.daemon import Daemon

# With a copy at hand that may be old, a daemon is waited for no longer than its restart takes.
_STALE_TIMEOUT_SECONDS = 2.0


class Wish(NamedTuple):
    """What the caller wants to be sure of, as in the API's ResolveRequest."""

    digest: str | None = None
    refresh: bool = False
    offline: bool = False


def get(handles: Sequence[str], wish: Wish, *, quiet: bool, as_json: bool) -> int:
    """Print the path of each handle, or all that is known of it; the exit code."""
    results: dict[str, dict[str, Any]] = {}
    errors: dict[str, HubError] = {}
    for handle in dict.fromkeys(handles):
        started = time.monotonic()
        try:
            answer = _without_daemon(handle, wish)
        except HubError as error:
            errors[handle] = error
            continue
        if answer is not None:
            results[handle] = answer
            if answer["outcome"] == "hit" and not quiet and not as_json:
                say(hit_line(handle, time.monotonic() - started))
    if asked := [handle for handle in dict.fromkeys(handles) if handle not in results and handle not in errors]:
        ended = _from_daemon(asked, wish, quiet=quiet, as_json=as_json)
        results |= ended.results
        errors |= ended.errors
    tell(results, errors, as_json=as_json)
    answers = [results[handle] for handle in handles if handle in results]
    if as_json and answers:
        emit_json(answers if len(handles) > 1 else answers[0])
    elif answers:
        emit("".join(answer["path"] + "\n" for answer in answers))
    return exit_code_of_all(errors.values())


def bring(handle: str, *, quiet: bool, as_json: bool) -> None:
    """Have the module in the cache, with a display on stderr while it is downloaded; raises its error."""
    if _without_daemon(handle, Wish()) is None:
        ended = _from_daemon([handle], Wish(), quiet=quiet, as_json=as_json)
        for error in ended.errors.values():
            raise error
        tell(ended.results, {}, as_json=as_json)


def _without_daemon(handle: str, wish: Wish) -> dict[str, Any] | None:
    if is_path(handle):
        unknown = dict.fromkeys(("key", "digest", "size_bytes", "immutable", "fetched_at"))
        path = local.module_directory(handle, wish.digest)
        return {"handle": handle, "path": path, "outcome": "local", "warnings": [], **unknown}
    if wish.digest is not None or wish.refresh:
        canonical(handle)  # what is no handle is refused alone
        return None
    held = resolving.look(handle)
    return _cached(handle, held.path) if held is not None else None


def _from_daemon(handles: Sequence[str], wish: Wish, *, quiet: bool, as_json: bool) -> Ended:
    """What the daemon answers; if there is none, copies that are whole but may be old, with a warning."""
    environ = dict(os.environ)
    copies: dict[str, Tree] = {}
    ended = Ended({}, {})
    try:
        copies |= {handle: tree for handle in handles if (tree := _copy(handle, wish)) is not None}
        if wish.offline:  # a running daemon knows more than its views tell, but none is waited for or started
            environ |= {"HUBD_AUTOSTART": "0", "HUBD_TIMEOUT": "0"}
        elif len(copies) == len(handles):
            environ["HUBD_TIMEOUT"] = str(min(_STALE_TIMEOUT_SECONDS, finding.timeout_seconds(environ)))
        daemon = reach_aloud(environ, quiet=quiet or as_json)
    except HubError as error:  # the other handles, which need no daemon, are answered all the same
        ended.errors.update(dict.fromkeys(handles, error))
    else:
        ended = resolve_all(handles, partial(_ask, daemon, wish), quiet=quiet, as_json=as_json)
    for handle in [handle for handle in handles if isinstance(ended.errors.get(handle), DaemonUnreachable)]:
        if handle in copies:
            del ended.errors[handle]
            stale = {
                "outcome": "stale",
                "warnings": [f"{handle} may be out of date: nobody was asked, as no daemon answers"],
            }
            ended.results[handle] = _cached(handle, copies[handle].path) | stale
        elif wish.offline:
            ended.errors[handle] = Offline("the module is not in the cache, or not as asked for; nobody else is asked")
    return ended


def _ask(daemon: Daemon, wish: Wish, handle: str, report: Report) -> dict[str, Any]:
    result = daemon.resolve(handle, digest=wish.digest, refresh=wish.refresh, offline=wish.offline, progress=report)
    path = str(result["path"])
    root = os.path.dirname(os.path.dirname(os.path.dirname(path)))
    try:
        # The lease ends with this process: the daemon's own ends 10 s after its answer, and others may take longer.
        Cache(root, finding.trusted_uids(os.environ, daemon.place)).take(result["digest"])
    except OSError as error:
        raise CacheUnreachable(
            f"the daemon has the module at {path}, which cannot be used from here ({error}): mount its cache at the "
            "same path"
        ) from error
    return result


def _copy(handle: str, wish: Wish) -> Tree | None:
    """The module in the cache, fresh or not, if it is what the caller wants to be sure of."""
    place = finding.find(os.environ)
    if place.cache is None or wish.refresh:
        return None
    tree = Cache(place.cache, finding.trusted_uids(os.environ, place)).look(key(canonical(handle)))
    return tree if tree is not None and (wish.digest or "").removeprefix("sha256:") in ("", tree.digest) else None


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
        "immutable": is_immutable(plain),
        "fetched_at": None,
        "warnings": [],
    }

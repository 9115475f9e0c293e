"""`hubctl lock`: which content modules have now, written down.

Law: the lock file has all that was asked for, or stays as it is; and what it says already comes out as it was.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from hubclient import atomic
from hubclient.cli.asking import Report
from hubclient.cli.get import is_offline
from hubclient.cli.names import module_path
from hubclient.cli.output import emit, emit_json, exit_code_of_all, say
from hubclient.cli.resolving import resolve_all, tell
from hubclient.cli.wording import printable
from hubclient.contract import lock_file
from hubclient.contract.errors import HandleInvalid, HubError, Internal
from hubclient.contract.handles import canonical, is_path, key
from hubclient.contract.lock_file import Locked

if TYPE_CHECKING:
    from hubclient.daemon import Daemon

STDOUT = "-"
_ROUNDS = 3


def lock(daemon: Daemon, handles: Sequence[str], file: str, *, refresh: bool, quiet: bool, as_json: bool) -> int:
    """Write the modules (none: all that the file has) into the lock file; the exit code."""
    wanted: dict[str, str] = {}
    errors: dict[str, HubError] = {}
    for handle in handles or [locked.handle for locked in _before(file).values()]:
        try:
            wanted.setdefault(_key(handle), handle)
        except HandleInvalid as error:
            errors[handle] = error
    asked = list(wanted.values())
    ended = resolve_all(asked, partial(_ask, daemon, refresh), quiet=quiet, as_json=as_json) if asked else None
    results = ended.results if ended is not None else {}
    errors |= ended.errors if ended is not None else {}
    tell(results, errors, as_json=as_json)
    if errors:
        if file != STDOUT and not as_json:
            say(f"hubctl: {file} stays as it is")
        return exit_code_of_all(errors.values())
    found = {one: results[handle]["locked"] for one, handle in wanted.items()}  # in the order of the asking
    before = _before(file)  # as late as can be: somebody else may have added something meanwhile
    changes = {one: _change(before.get(one), locked) for one, locked in found.items()}
    _write(file, before, before | found, quiet=as_json)
    if as_json:
        modules = [locked._asdict() | {"change": changes[one]} for one, locked in found.items()]
        emit_json({"lock": None if file == STDOUT else file, "modules": modules})
    elif file != STDOUT and changes:
        width = max(map(len, changes.values()))
        emit("".join(f"{changes[one]:<{width}}  {printable(locked.handle)}\n" for one, locked in found.items()))
    return 0


def _before(file: str) -> dict[str, Locked]:
    return lock_file.read(file) if file != STDOUT and os.path.lexists(file) else {}


def _key(handle: str) -> str:
    if is_path(handle):
        raise HandleInvalid("this is a path: a lock file is about modules that are fetched")
    return key(canonical(handle))


def _ask(daemon: Daemon, refresh: bool, handle: str, report: Report) -> dict[str, Any]:
    for _ in range(_ROUNDS):
        answer = daemon.resolve(handle, refresh=refresh, offline=is_offline(os.environ), progress=report)
        module = daemon.get(module_path(handle))
        if module["digest"] == answer["digest"]:
            locked = Locked(answer["handle"], module["digest"], module["content_digest"], module["size_bytes"])
            return answer | {"locked": locked}
    raise Internal(f"{handle} changed again and again while it was looked at")


def _change(before: Locked | None, now: Locked) -> str:
    return "added" if before is None else "same" if before == now else "changed"


def _write(file: str, before: dict[str, Locked], after: dict[str, Locked], *, quiet: bool) -> None:
    text = lock_file.dump(after.values())
    if file == STDOUT:
        if not quiet:
            emit(text.decode())
    elif before != after or not os.path.lexists(file):
        # Through a link, which stays: the file may lie where several projects have it.
        with atomic.new_file(os.path.realpath(atomic.absolute(file)), replace=True) as written:
            written.write(text)

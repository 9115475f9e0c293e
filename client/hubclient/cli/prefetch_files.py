"""What the arguments of `hubctl prefetch` want: handles, and the modules of files.

Law: an argument is a file by its name alone, ``*.toml`` or ``*.lock``; a path that is not so called is an error, for a
handle is no path and a directory has nothing to fetch.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from hubclient.contract import lock_file, prefetch_file
from hubclient.contract.errors import HandleInvalid, HubError, RequestInvalid
from hubclient.contract.handles import canonical, is_path, key
from hubclient.contract.prefetch_file import PrefetchFile, Wanted, merged


class Expanded(NamedTuple):
    """The modules by the handle as it was written, the errors by argument, and what is to be said."""

    wanted: dict[str, Wanted]
    errors: dict[str, HubError]
    notes: list[str]


def expand(arguments: Sequence[str]) -> Expanded:
    """All that the arguments want; an argument that is wrong spoils no other.

    Raises `RequestInvalid` where two of them demand different content of one module.
    """
    found: list[Wanted] = []
    expanded = Expanded({}, {}, [])
    for argument in dict.fromkeys(arguments):
        try:
            found += _of_file(argument, expanded.notes) if is_file(argument) else [_of_handle(argument)]
        except HubError as error:
            expanded.errors[argument] = error
    try:
        by_key = {one.key: one for one in merged(found)}
    except ValueError as error:
        raise RequestInvalid(str(error)) from None
    # Each spelling is asked for, and each is to be what one of the mentions demands.
    expanded.wanted.update({one.handle: by_key[one.key]._replace(handle=one.handle) for one in found})
    return expanded


def is_file(argument: str) -> bool:
    """Whether it is the name of a prefetch file or of a lock file."""
    return is_path(argument) and argument.endswith((".toml", ".lock"))


def _of_handle(handle: str) -> Wanted:
    if is_path(handle):
        raise HandleInvalid("this is a path: there is nothing to fetch, but for files called *.toml or *.lock")
    return Wanted(handle, key(canonical(handle)))


def _of_file(path: str, notes: list[str]) -> list[Wanted]:
    if path.endswith(".lock"):
        return list(_with_locked(PrefetchFile(()), path).modules)
    try:
        with open(path, "rb") as opened:
            file = prefetch_file.parse(opened.read(prefetch_file.MAX_BYTES + 1))
        if file.lock is not None:
            file = _with_locked(file, os.path.join(os.path.dirname(path), file.lock))
    except OSError as error:
        raise RequestInvalid(f"the prefetch file {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise RequestInvalid(f"{path} is no prefetch file: {error}") from None
    if lasting := _lasting(file):
        notes.append(f"{path}: what it says of {lasting} counts only in the daemon's own directory of prefetch files")
    return list(file.modules)


def _with_locked(file: PrefetchFile, path: str) -> PrefetchFile:
    return prefetch_file.with_lock(file, lock_file.read(path).values())


def _lasting(file: PrefetchFile) -> str:
    """What the file says of more than this once."""
    stated = {
        "priority": file.priority != "normal",
        "refresh": file.refresh_seconds is not None,
        "window": file.window is not None,
        "pin": file.pin,
    }
    return ", ".join(name for name, is_stated in stated.items() if is_stated)

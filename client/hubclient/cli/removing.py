"""`hubctl rm`: modules out of the cache by hand.

Law: what a program may be using goes only if the user insists, and is then told apart by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hubclient.cli.confirming import can_ask, confirm
from hubclient.cli.names import module_path, of_uids
from hubclient.cli.output import EXIT_FAILED, complain, emit, emit_json, exit_code_of_all, say
from hubclient.cli.wording import count, printable, size
from hubclient.contract.errors import HubError, InUse

if TYPE_CHECKING:
    from hubclient.daemon import Daemon


def rm(daemon: Daemon, handles: Sequence[str], *, force: bool, yes: bool, as_json: bool) -> int:
    """Remove each, print what was removed and what that freed; the exit code."""
    wanted = list(dict.fromkeys(handles))
    question = f"Remove {count(len(wanted), 'module')}, even from under programs that use them?"
    if force and not yes and can_ask() and not confirm(question):
        say("hubctl: nothing was removed")
        return EXIT_FAILED
    removed: list[dict[str, Any]] = []
    errors: dict[str, HubError] = {}
    for handle in wanted:
        try:
            removed.append(daemon.delete(module_path(handle) + ("?force=true" if force else "")))
        except HubError as error:
            errors[handle] = error
            complain(_with_users(daemon, handle, error), as_json=as_json, handle=handle)
            continue
        if not as_json:
            emit(line_of(removed[-1]))
    if as_json:
        emit_json({"removed": removed})
    return exit_code_of_all(errors.values())


def line_of(removed: dict[str, Any]) -> str:
    """What came of one handle, from the API's answer to a DELETE."""
    if removed["shared_with"]:
        handle = removed["handle"]
        others = ", ".join(
            f"{printable(other)}{' of another user' if other == handle else ''}" for other in removed["shared_with"]
        )
        return f"removed  {printable(removed['handle'])}  nothing freed, the content is shared with {others}"
    return f"removed  {printable(removed['handle'])}  {size(removed['freed_bytes'])} freed"


def _with_users(daemon: Daemon, handle: str, error: HubError) -> HubError:
    """The error; of a module in use also who said to use it, as far as the daemon knows."""
    if not isinstance(error, InUse):
        return error
    users: Sequence[int] = ()
    with suppress(HubError):  # the error that there is already says enough
        users = daemon.get(module_path(handle)).get("users") or ()
    return InUse(f"{error.detail}\nused lately by {of_uids(users)}") if users else error

"""`hubctl pin` and `hubctl unpin`: what the cache keeps whatever its quota says.

Law: a module is pinned in the cache of the daemon that answers, so what is missing there is fetched before.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from hubclient.cli.asking import Report
from hubclient.cli.get import is_offline
from hubclient.cli.names import module_path
from hubclient.cli.output import emit, emit_json, exit_code_of_all, say
from hubclient.cli.resolving import resolve_all, tell
from hubclient.cli.wording import printable
from hubclient.contract.errors import HubError, NotFound

if TYPE_CHECKING:
    from hubclient.daemon import Daemon


def pin(daemon: Daemon, handles: Sequence[str], *, quiet: bool, as_json: bool) -> int:
    """Pin each, fetched first if need be; the exit code."""

    def ask(handle: str, report: Report) -> dict[str, Any]:
        return daemon.resolve(handle, offline=is_offline(os.environ), progress=report)

    modules, errors = _each(handles, lambda handle: daemon.put(module_path(handle) + "/pin"))
    if missing := [handle for handle, error in errors.items() if isinstance(error, NotFound)]:
        ended = resolve_all(missing, ask, quiet=quiet, as_json=as_json)
        tell(ended.results, {}, as_json=as_json)
        pinned, failed = _each(list(ended.results), lambda handle: daemon.put(module_path(handle) + "/pin"))
        modules |= pinned
        errors = {handle: error for handle, error in errors.items() if handle not in missing} | ended.errors | failed
    return _print("pinned", handles, modules, errors, as_json=as_json)


def unpin(daemon: Daemon, handles: Sequence[str], *, as_json: bool) -> int:
    """Unpin each; the exit code."""
    modules, errors = _each(handles, lambda handle: daemon.delete(module_path(handle) + "/pin"))
    for module in () if as_json else modules.values():
        if files := module.get("pinned_by"):  # a daemon of before knows no files
            say(f"hubctl: {module['handle']} stays, as long as the prefetch file {', '.join(files)} pins it")
    return _print("unpinned", handles, modules, errors, as_json=as_json)


def _each(
    handles: Sequence[str], ask: Callable[[str], dict[str, Any]]
) -> tuple[dict[str, dict[str, Any]], dict[str, HubError]]:
    modules: dict[str, dict[str, Any]] = {}
    errors: dict[str, HubError] = {}
    for handle in dict.fromkeys(handles):
        try:
            modules[handle] = ask(handle)
        except HubError as error:
            errors[handle] = error
    return modules, errors


def _print(
    word: str,
    handles: Sequence[str],
    modules: dict[str, dict[str, Any]],
    errors: dict[str, HubError],
    *,
    as_json: bool,
) -> int:
    tell({}, errors, as_json=as_json)
    done = [handle for handle in dict.fromkeys(handles) if handle in modules]
    if as_json:
        emit_json({"modules": [modules[handle] for handle in done]})
    elif done:
        emit("".join(f"{word}  {printable(modules[handle]['handle'])}\n" for handle in done))
    return exit_code_of_all(errors.values())

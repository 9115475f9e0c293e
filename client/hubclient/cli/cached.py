"""`hubctl get HANDLE...` for what is cached, without typer: that saves a script a tenth of a second.

Law: it answers only what needs no parsing, `get` with handles and at most `--quiet`; whatever is not a plain hit
goes the long way, which answers in the same words.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from hubclient import resolving
from hubclient.cli.output import emit, hit_line, say
from hubclient.contract.errors import HubError
from hubclient.contract.handles import is_path

_QUIET = ("-q", "--quiet")


def answer_from_cache(arguments: Sequence[str]) -> bool:
    """Answer the command if the cache alone can; False, and nothing is printed, when it cannot."""
    command, *rest = arguments or [""]
    handles = [one for one in rest if one not in _QUIET]
    if command != "get" or not handles or any(one.startswith("-") or is_path(one) for one in handles):
        return False
    paths, lines = [], []
    for handle in handles:
        started = time.monotonic()
        try:
            held = resolving.look(handle)
        except HubError:
            return False
        if held is None:
            return False
        paths.append(held.path + "\n")
        lines.append(hit_line(handle, time.monotonic() - started))
    for line in lines if len(handles) == len(rest) else ():
        say(line)
    emit("".join(paths))
    return True

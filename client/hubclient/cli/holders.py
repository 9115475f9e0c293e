"""`hubctl show --holders`: who holds a module, found in ``/proc``.

Law: it only looks. A process that ends meanwhile is no error, and one that may not be looked into is counted.

Open-file-description locks name no process, so the holders of a lease are those that have its file open (by device and
inode, since a path looks different in a container, and a tree that was moved away keeps its inode).
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from typing import NamedTuple

from hubclient.cli.names import of_uid
from hubclient.cli.output import emit, emit_json, say
from hubclient.cli.tables import table
from hubclient.cli.wording import count, printable

HEADER = ("COMMAND", "PID", "USER", "HOLDS")

_Inode = tuple[int, int]
_GONE = (FileNotFoundError, ProcessLookupError)


class Holder(NamedTuple):
    """A process that has the lease, or files of the module, open."""

    pid: int
    uid: int
    user: str
    command: str
    holds: tuple[str, ...]  #: "lease", "files"


class Found(NamedTuple):
    """What the look gave; `hidden` counts the processes that this user may not look into."""

    holders: list[Holder]
    hidden: int


def show_holders(module: str, lease: str | None, handle: str, *, as_json: bool) -> None:
    """Print who holds the module in the directory `module`; `lease` is the path of its lease, if it has one."""
    holders, hidden = find_holders(module, lease)
    is_root = os.geteuid() == 0
    if as_json:
        documents = [holder._asdict() | {"holds": list(holder.holds)} for holder in holders]
        complete = is_root and not hidden
        emit_json({"handle": handle, "path": module, "holders": documents, "hidden": hidden, "complete": complete})
        return
    if holders:
        rows = [(printable(one.command), str(one.pid), one.user, ", ".join(one.holds)) for one in holders]
        emit(table(HEADER, rows, frozenset({1})))
    else:
        say("nobody holds it" + ("" if is_root and not hidden else ", as far as can be seen"))
    if hidden:
        say(f"hubctl: {count(hidden, 'process')} could not be looked into")
    if not is_root:
        say("        only root sees the processes of all users")


def find_holders(module: str, lease: str | None, proc: str = "/proc") -> Found:
    """The processes, this one left out, that have the lease or something below `module` open."""
    held = dict.fromkeys(_inodes(module), "files")
    if lease is not None:
        status = os.stat(lease)
        held[status.st_dev, status.st_ino] = "lease"
    holders: list[Holder] = []
    hidden = 0
    for pid in sorted(int(name) for name in os.listdir(proc) if name.isdigit() and int(name) != os.getpid()):
        directory = f"{proc}/{pid}"
        try:
            holds = {held[inode] for inode in _open_inodes(f"{directory}/fd") if inode in held}
            if holds:
                uid = _uid(directory)
                holders.append(Holder(pid, uid, of_uid(uid), _command(directory), tuple(sorted(holds, reverse=True))))
        except _GONE:
            continue
        except PermissionError:
            hidden += _is_program(directory)
    return Found(holders, hidden)


def _inodes(module: str) -> Iterator[_Inode]:
    for directory, _, files in os.walk(module):
        for path in (directory, *(os.path.join(directory, name) for name in files)):
            try:
                status = os.stat(path)
            except FileNotFoundError:
                continue
            yield status.st_dev, status.st_ino


def _open_inodes(directory: str) -> Iterator[_Inode]:
    for name in os.listdir(directory):
        path = f"{directory}/{name}"
        try:
            # What is no file has a target like "socket:[1]". A device may be slow to answer, and is no file either.
            if not (target := os.readlink(path)).startswith("/") or target.startswith("/dev/"):
                continue
            status = os.stat(path)
        except _GONE:  # closed meanwhile
            continue
        yield status.st_dev, status.st_ino


def _uid(directory: str) -> int:
    """The real uid: the owner of the directory is root where a process keeps others from looking into it."""
    with open(f"{directory}/status", encoding="ascii", errors="replace") as file:
        fields = dict(line.rstrip("\n").partition(":")[::2] for line in file)
    return int(fields["Uid"].split()[0])


def _command(directory: str) -> str:
    arguments = _arguments(directory)
    if arguments:
        return shlex.join(arguments)
    with open(f"{directory}/comm", errors="replace") as file:
        return f"[{file.read().strip()}]"


def _arguments(directory: str) -> list[str]:
    with open(f"{directory}/cmdline", "rb") as file:
        return os.fsdecode(file.read()).split("\0")[:-1]


def _is_program(directory: str) -> bool:
    """Whether it is more than a thread of the kernel or a process that has ended, which hold nothing."""
    try:
        return bool(_arguments(directory))
    except _GONE:
        return False
    except PermissionError:
        return True

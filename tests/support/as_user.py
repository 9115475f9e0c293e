"""Runs a program as another user: ``python -m tests.support.as_user UID PROGRAM ARGUMENT...``, as root.

The interpreter and the code often lie below a home directory that only root may enter. So the program runs in a
mount namespace of its own where the way to them is open; nothing outside of it changes.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

_CLONE_NEWNS = 0x00020000  # linux/sched.h
REPOSITORY = Path(__file__).resolve().parents[2]


def command(uid: int, *program: str) -> list[str]:
    """The command line that runs the program as that user. Start it in `REPOSITORY`."""
    return [sys.executable, "-m", "tests.support.as_user", str(uid), *program]


def main() -> None:
    uid, *program = sys.argv[1:]
    _open_the_way()
    os.setgroups([])
    os.setresgid(int(uid), int(uid), int(uid))
    os.setresuid(int(uid), int(uid), int(uid))
    os.chdir("/")
    os.execv(program[0], program)


def _open_the_way() -> None:
    blocked: dict[Path, set[Path]] = {}
    for needed in {Path(sys.prefix), Path(sys.base_prefix).resolve(), REPOSITORY}:
        for directory in reversed(needed.parents):
            if not directory.stat().st_mode & 0o001:
                blocked.setdefault(directory, set()).add(needed)
                break
    if not blocked:
        return
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "no mount namespace can be made")
    _mount("--make-rprivate", "/")
    aside = Path("/mnt")
    _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", str(aside))
    for directory, needed_ones in blocked.items():
        places = {needed: aside / str(number) for number, needed in enumerate(sorted(needed_ones))}
        for needed, place in places.items():
            place.mkdir()
            _mount("--rbind", str(needed), str(place))
        _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", str(directory))
        for needed, place in places.items():
            needed.mkdir(parents=True)
            _mount("--rbind", str(place), str(needed))


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


if __name__ == "__main__":
    main()

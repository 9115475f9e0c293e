"""Packs a module's directory, by `hubctl pack` in a process of its own.

Law: what is packed is what the publisher's own `hubctl pack` gives, byte for byte; and a run that nobody wants any more
is dead when `pack` returns. (Why a process: docs/decisions/017.)
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import resource
import signal
import sys
from asyncio.subprocess import PIPE
from contextlib import suppress

from hubclient.contract.errors import ArchiveTooLarge, HubError, Internal, from_problem
from hubd.config import LimitSettings

_NICENESS = 10  # downloads come first
_MEMORY_BYTES = 1 << 30  # of address space; it takes a tenth
_LIMITS = LimitSettings()  # a daemon takes no larger archive, unless it is told to
_ENVIRON = {"LANG": "C.UTF-8", "PATH": os.defpath}
_STDERR_TAIL = 2000


async def pack(directory: str, out: str) -> str:
    """Write the archive of a module's directory to `out`, durably; its hex sha256. Raises `HubError` as `hubctl pack`
    fails."""
    command = [sys.executable, "-P", "-m", "hubclient.cli", "pack", directory, "-o", out, "--json", "--quiet"]
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=PIPE, stderr=PIPE, cwd="/", env=_ENVIRON,
            start_new_session=True,  # a Ctrl-C at the host's terminal is the host's to handle
        )  # fmt: skip
    except OSError as error:
        raise Internal(f"no process to pack can be started: {error.strerror}") from error
    try:
        _confine(process.pid)
        stdout, stderr = await process.communicate()
    except asyncio.CancelledError:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        _remove_unfinished(out)
        raise
    if process.returncode != 0:
        raise _failure(process.returncode, stderr)
    digest: str = json.loads(stdout)["digest"]
    return digest.removeprefix("sha256:")


def _confine(pid: int) -> None:
    with suppress(ProcessLookupError):  # it has failed already
        os.setpriority(os.PRIO_PROCESS, pid, _NICENESS)
        for limit, value in ((resource.RLIMIT_AS, _MEMORY_BYTES), (resource.RLIMIT_FSIZE, _LIMITS.archive)):
            most = resource.prlimit(pid, limit)[1]
            wanted = value if most == resource.RLIM_INFINITY else min(value, most)
            resource.prlimit(pid, limit, (wanted, wanted))


def _remove_unfinished(out: str) -> None:
    """What `hubctl pack` writes lies beside its target until it is whole."""
    directory, name = os.path.split(out)
    for found in os.listdir(directory):
        if name in found:
            with suppress(FileNotFoundError):
                os.unlink(f"{directory}/{found}")


def _failure(returncode: int | None, stderr: bytes) -> HubError:
    """What it said: a problem, in its last line."""
    text = stderr[-_STDERR_TAIL:].decode(errors="replace").strip()
    try:
        error = from_problem(json.loads(text.rpartition("\n")[2]))
    except (ValueError, AttributeError):
        return Internal(f"packing ended with status {returncode}: {text or 'it gave no message'}")
    if os.strerror(errno.EFBIG) in error.detail:
        return ArchiveTooLarge(f"the archive is larger than the limit of {_LIMITS.archive} bytes")
    return error

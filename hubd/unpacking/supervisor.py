"""Runs the unpacking child: limits, clock, kill; and turns what it tells into a report or an error.

Law: when the ``async with`` of an `Unpacker` is left, in whatever way, its child is dead and reaped. And the child
works on bytes of strangers, so what it tells is checked like theirs.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NamedTuple, Self

from hubclient.contract import errors
from hubclient.contract.errors import ArchiveTooLarge, ArchiveUnsafe, HubError, Internal
from hubclient.contract.layout import is_digest
from hubd.unpacking.clock import Clock
from hubd.unpacking.names import ArchiveLimits, clean

_TELL_WHEN_IDLE_BYTES = 64 * 1024  # less is not worth waking the child for, unless it is the end
_TELL_WHEN_BUSY_BYTES = 4 * 1024 * 1024
_READ_BYTES = 64 * 1024
_MAX_LINE_BYTES = 16 * 1024 * 1024  # the report of a model with very many signatures; see contract/saved_model.py
_MAX_DETAIL = 1000
_STDERR_TAIL = 2000
_NICE = 10
_FORMATS = ("saved_model", "tf1")
_CHILD_ENVIRON = {
    "LANG": "C.UTF-8",
    # One arena: each more would reserve 64 MB of the address space that the limit counts.
    "MALLOC_ARENA_MAX": "1",
    # Keep the memory of freed pieces: giving it back and faulting it in again is a quarter of the kernel's work.
    "MALLOC_TRIM_THRESHOLD_": str(64 << 20),
    "MALLOC_MMAP_THRESHOLD_": str(8 << 20),
}
_CHILD_ERRORS: dict[str, type[HubError]] = {
    cls.code: cls
    for cls in (
        errors.ArchiveCorrupt,
        errors.ArchiveUnsafe,
        errors.ArchiveTooLarge,
        errors.NotAModule,
        errors.DiskFull,
    )
}


#: Called with the bytes that the files will take on disk next, and those that the archive announces them to take in
#: the end. Gives the bytes that they may take; what it raises ends the run.
MakeRoom = Callable[[int, int], Awaitable[int]]


@dataclass(frozen=True)
class UnpackLimits:
    """What one run may take. Reaching a limit is an error that names it."""

    module_bytes: int  # of all files together
    files: int  # and directories
    depth: int  # levels below the module's root
    path_bytes: int
    memory_bytes: int  # address space of the child
    time_seconds: float  # only time in which unread bytes were there counts


class UnpackedFile(NamedTuple):
    path: str  #: relative to ``module/``
    size_bytes: int
    sha256: str  #: hex


@dataclass(frozen=True)
class UnpackReport:
    """What now lies in ``module/``, complete and durable."""

    files: tuple[UnpackedFile, ...]
    size_bytes: int
    format: str  # "saved_model", or "tf1" with a tfhub_module.pb at the root
    meta_graphs: list[dict[str, Any]]  # see contract/saved_model.py; empty with only a saved_model.pbtxt


class Unpacker:
    """One run of the child over one spool, into ``module/`` below the existing, empty directory `tree`.

    Await `result` while you `feed`: it is what listens to the child.
    """

    def __init__(
        self,
        archive: str,
        tree: str,
        limits: UnpackLimits,
        make_room: MakeRoom | None = None,
        *,
        is_plain: bool = False,
    ) -> None:
        """`make_room` is asked before the files take so many bytes on disk (None: nobody is). `is_plain`: the archive
        is a tar as it is, not gzipped.
        """
        self._archive = archive
        self._is_plain = is_plain
        self._tree = tree
        self._limits = limits
        self._make_room = make_room
        self._waits_for_room = False
        self._wanted: tuple[int, int] | None = None
        self._process: Process | None = None
        self._frontier_bytes = 0
        self._told_bytes = 0
        self._is_whole = False
        self._idle_at_bytes: int | None = 0  # where the child waits for more; None while it works
        self._is_over = False
        self._unfinished_line = bytearray()
        self._files: list[UnpackedFile] = []
        self._unpacked_bytes = 0
        self._peak_rss_bytes = 0

    async def __aenter__(self) -> Self:
        self._clock = Clock(asyncio.get_running_loop(), self._limits.time_seconds, self._kill)
        self._process = await asyncio.create_subprocess_exec(
            *self._command(),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            cwd="/",
            env=_CHILD_ENVIRON,
            # A Ctrl-C at the daemon's terminal is the daemon's to handle. In a session of its own it would have as much
            # of the CPUs as all of the daemon's together (sched(7), autogroup).
            process_group=0,
        )
        self._tell()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._clock.stop()
        self._kill()
        # Reads to the ends of the pipes and reaps. Should this wait be cancelled too, the event loop's watcher
        # still reaps the child, which is dead.
        await self._process.communicate()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def be_nice(self) -> None:
        """Let everybody else have the CPU first, from now on: the daemon cannot take that back."""
        if self._process is not None and self._process.returncode is None:
            with suppress(OSError):  # it ends at this moment
                os.setpriority(os.PRIO_PGRP, self._process.pid, _NICE)

    @property
    def is_idle(self) -> bool:
        """Whether the child waits for more bytes, so that the clock stands."""
        return self._idle_at_bytes is not None

    @property
    def unpacked_bytes(self) -> int:
        """How many bytes of files the child has unpacked, as it last told."""
        return self._unpacked_bytes

    @property
    def peak_rss_bytes(self) -> int:
        """The most memory that the child held, told with its last word; 0 if it had none."""
        return self._peak_rss_bytes

    def feed(self, frontier_bytes: int) -> None:
        """The bytes [0, frontier_bytes) of the archive are in the spool. Never blocks."""
        self._frontier_bytes = max(self._frontier_bytes, frontier_bytes)
        self._tell()

    def finish(self, size_bytes: int) -> None:
        """The archive is whole at this size. Never blocks."""
        self._frontier_bytes = size_bytes
        self._is_whole = True
        self._tell()

    async def result(self) -> UnpackReport:
        """Wait for the end of the run; to be awaited once.

        Raises `ArchiveCorrupt`, `ArchiveUnsafe` (also for the limits of memory and time), `ArchiveTooLarge`,
        `NotAModule`, `DiskFull`, or `Internal` when the child itself failed (a note holds the end of its stderr).
        """
        assert self._process is not None
        assert self._process.stderr is not None
        last: UnpackReport | HubError | None = None
        try:
            while lines := await self._read_lines():
                for line in lines:
                    if last is not None:
                        raise ValueError("it went on after its last word")
                    last = self._take(line)
                if (wanted := self._wanted) is not None:
                    self._wanted = None
                    await self._grant(*wanted)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            self._kill()
            raise Internal(f"the unpacking child broke the protocol: {error}") from None
        finally:
            self._is_over = True
        returncode = await self._process.wait()
        is_overtime = self._clock.is_over
        self._clock.stop()
        if isinstance(last, UnpackReport) and returncode == 0:
            return last
        if isinstance(last, HubError):
            raise last
        if is_overtime or returncode == -signal.SIGXCPU:
            raise ArchiveUnsafe(f"unpacking took more than the limit of {self._limits.time_seconds:g} s")
        stderr = (await self._process.stderr.read())[-_STDERR_TAIL:].decode(errors="replace").strip()
        summary = stderr.rpartition("\n")[2][:_MAX_DETAIL] or "it gave no message"
        failure = Internal(f"the unpacking child ended with status {returncode} and no report: {summary}")
        failure.add_note(stderr)
        raise failure

    def _command(self) -> list[str]:
        limits = self._limits
        numbers = (limits.module_bytes, limits.files, limits.depth, limits.path_bytes, limits.memory_bytes)
        time_seconds = math.ceil(limits.time_seconds)
        form = ("--plain",) if self._is_plain else ()
        arguments = (*form, self._archive, self._tree, os.getpid(), *numbers, time_seconds)
        return [sys.executable, "-P", "-m", "hubd.unpacking.child", *map(str, arguments)]

    def _tell(self) -> None:
        """Tell the child the frontier, if it waits for it or falls far behind; a slow child costs few lines."""
        if self._process is None or self._is_over:
            return
        new_bytes = self._frontier_bytes - self._told_bytes
        step = _TELL_WHEN_BUSY_BYTES if self._idle_at_bytes is None else _TELL_WHEN_IDLE_BYTES
        if not self._is_whole and new_bytes < step:
            return
        self._told_bytes = self._frontier_bytes
        self._say(b"end %d\n" % self._told_bytes if self._is_whole else b"%d\n" % self._told_bytes)
        self._idle_at_bytes = None
        if not self._waits_for_room:
            self._clock.start()

    async def _grant(self, size_bytes: int, announced_bytes: int) -> None:
        """The child waits: its clock stands, whatever has to go for the room."""
        self._waits_for_room = True
        self._clock.stop()
        granted_bytes = size_bytes if self._make_room is None else await self._make_room(size_bytes, announced_bytes)
        self._waits_for_room = False
        self._clock.start()
        self._say(b"room %d\n" % max(size_bytes, granted_bytes))

    def _say(self, line: bytes) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(line)

    def _take(self, line: bytes) -> UnpackReport | HubError | None:
        """Act on one line of the child; its last word, if it is one. Raises `ValueError` and its like for nonsense."""
        ((what, value),) = json.loads(line).items()
        if what == "idle":
            if value == self._told_bytes and not self._is_whole:
                self._clock.stop()
                self._idle_at_bytes = value
                self._tell()
        elif what == "room":
            size_bytes, announced_bytes = map(_count, value)
            self._wanted = (size_bytes, announced_bytes)
        elif what == "unpacked":
            self._unpacked_bytes = _count(value)
        elif what == "file":
            path, size_bytes, sha256 = value
            self._add(UnpackedFile(path, _count(size_bytes), sha256))
        elif what == "report":
            self._peak_rss_bytes = _count(value["peak_rss_bytes"])
            return self._report(value)
        elif what == "error":
            self._peak_rss_bytes = _count(value["peak_rss_bytes"])
            return _CHILD_ERRORS.get(value["code"], Internal)(str(value["detail"])[:_MAX_DETAIL])
        else:
            raise ValueError(f"unknown word {str(what)[:40]!r}")
        return None

    def _add(self, file: UnpackedFile) -> None:
        limits = self._limits
        checked = clean(
            file.path.encode(), ArchiveLimits(limits.module_bytes, limits.files, limits.depth, limits.path_bytes)
        )
        if checked != file.path or not checked or not is_digest(file.sha256):
            raise ValueError("a file with a bad path or digest")
        if len(self._files) >= limits.files:
            raise ArchiveTooLarge(f"more than the limit of {limits.files} files")
        self._files.append(file)

    def _report(self, value: dict[str, Any]) -> UnpackReport:
        files = tuple(sorted(self._files))
        size_bytes = sum(file.size_bytes for file in files)
        graphs = value["meta_graphs"]
        if not self._is_whole:
            raise ValueError("a report of an archive that is not whole")
        if (
            value["format"] not in _FORMATS
            or value["size_bytes"] != size_bytes
            or size_bytes > self._limits.module_bytes
        ):
            raise ValueError("a report that does not fit its files")
        if not isinstance(graphs, list) or not all(isinstance(graph, dict) for graph in graphs):
            raise ValueError("meta graphs that are none")
        return UnpackReport(files, size_bytes, value["format"], graphs)

    async def _read_lines(self) -> list[bytes]:
        """The next whole lines, at least one; none at the end."""
        assert self._process is not None
        assert self._process.stdout is not None
        while piece := await self._process.stdout.read(_READ_BYTES):
            self._unfinished_line += piece
            if b"\n" in piece:
                *lines, self._unfinished_line = self._unfinished_line.split(b"\n")
                return [bytes(line) for line in lines]
            if len(self._unfinished_line) > _MAX_LINE_BYTES:
                raise ValueError(f"a line of more than {_MAX_LINE_BYTES} bytes")
        if self._unfinished_line:
            raise ValueError("its last line is cut off")
        return []

    def _kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()


def _count(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("a count that is none")
    return value

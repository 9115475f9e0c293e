"""The row `resources`: what a cold fetch costs in CPU and memory, and which thread it waits for.

Law: what the kernel counts is told, for the daemon and its children alike; the clock has ticks of 10 ms, and a child's
last look at its memory may be `LOOK_SECONDS` old.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from benchmarks import contenders
from benchmarks.bench import Bench
from benchmarks.report import Row, Series

LOOK_SECONDS = 0.02
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Cpu(NamedTuple):
    """Seconds (proc_pid_stat(5)): of a process or thread, and of its children that ended."""

    own: float
    ended_children: float


@dataclass
class Watched:
    """What a daemon and its children took while they were watched."""

    daemon_loop_cpu_seconds: float = 0.0
    daemon_cpu_seconds: float = 0.0
    child_cpu_seconds: float = 0.0
    child_main_cpu_seconds: dict[int, float] = field(default_factory=dict)
    child_peak_mb: dict[int, float] = field(default_factory=dict)
    daemon_peak_mb: float = 0.0


def resources(bench: Bench) -> Row:
    archive = bench.origin.archives["large"]
    gigabytes = archive.size_bytes / 1e9
    columns: dict[tuple[str, str], list[float]] = {}

    def note(what: str, unit: str, value: float) -> None:
        columns.setdefault((what, unit), []).append(value)

    def ours() -> None:
        with contenders.hubd(bench.work) as daemon:
            with watched(daemon.pid) as seen:
                resolved = daemon.library().resolve(bench.origin.handle("large"))
            archive.check(resolved.paths[0])
        inflating = sum(seen.child_main_cpu_seconds.values())
        note("hubclient, CPU", "s/GB", (seen.daemon_cpu_seconds + seen.child_cpu_seconds) / gigabytes)
        note("  daemon, event loop", "s/GB", seen.daemon_loop_cpu_seconds / gigabytes)
        note("  daemon, other threads", "s/GB", (seen.daemon_cpu_seconds - seen.daemon_loop_cpu_seconds) / gigabytes)
        note("  child, main thread", "s/GB", inflating / gigabytes)
        note("  child, other threads", "s/GB", max(0.0, seen.child_cpu_seconds - inflating) / gigabytes)
        note("hubd, peak memory of the daemon", "MB", seen.daemon_peak_mb)
        note("hubd, peak memory of its child", "MB", max(seen.child_peak_mb.values(), default=0.0))

    def theirs() -> None:
        with contenders.tensorflow_hub(bench.peer, bench.work) as library:
            resolved = library.resolve(bench.origin.handle("large"))
            archive.check(resolved.paths[0])
        note("tensorflow_hub, CPU", "s/GB", resolved.cpu_seconds / gigabytes)
        note("tensorflow_hub, peak memory with its imports", "MB", resolved.peak_mb)

    for number in range(bench.rounds):
        for measure in (ours, theirs) if number % 2 == 0 else (theirs, ours):
            measure()
    return Row(
        "resources",
        f"what a cold fetch of {archive.size_bytes / 1e6:.0f} MB takes",
        [Series(what, tuple(samples), unit) for (what, unit), samples in columns.items()],
    )


@contextlib.contextmanager
def watched(pid: int) -> Iterator[Watched]:
    """Looks at a daemon and its children while the block runs; what it tells is whole when the block is left."""
    seen = Watched()
    process = Path(f"/proc/{pid}")
    before, loop_before = cpu(process), cpu(process / "task" / str(pid))
    over = threading.Event()

    def look() -> None:
        while not over.wait(LOOK_SECONDS):
            for child in _children(process):
                # It may end at any moment.
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    place = Path(f"/proc/{child}")
                    peak_mb, main = peak_memory_mb(place), cpu(place / "task" / str(child))
                    seen.child_peak_mb[child] = max(peak_mb, seen.child_peak_mb.get(child, 0.0))
                    seen.child_main_cpu_seconds[child] = main.own

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield seen
    finally:
        over.set()
        looking.join()
    after, loop_after = cpu(process), cpu(process / "task" / str(pid))
    seen.daemon_cpu_seconds = after.own - before.own
    seen.daemon_loop_cpu_seconds = loop_after.own - loop_before.own
    seen.child_cpu_seconds = after.ended_children - before.ended_children
    seen.daemon_peak_mb = peak_memory_mb(process)


def cpu(process: Path) -> Cpu:
    """Of a process in /proc, or of one thread (``/proc/<pid>/task/<tid>``)."""
    # The name, in parentheses, may hold anything.
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    user, system, children_user, children_system = (int(ticks) / _TICKS_PER_SECOND for ticks in fields[11:15])
    return Cpu(user + system, children_user + children_system)


def peak_memory_mb(process: Path) -> float:
    """The most that was resident so far; 0 of a process that has ended and is not reaped."""
    for line in (process / "status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def _children(process: Path) -> list[int]:
    return [int(child) for task in (process / "task").iterdir() for child in _read(task / "children").split()]


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except (FileNotFoundError, ProcessLookupError):  # a thread that has just ended
        return ""

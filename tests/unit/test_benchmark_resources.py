"""What a process that is watched has taken."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks import resources


def test_what_a_daemon_and_its_child_took_is_counted() -> None:
    program = "import sys, subprocess; sys.stdin.readline(); {work}; print(flush=True); sys.stdin.readline()"
    work = "n = [0] * 8_000_000; t = sum(i * i for i in range(3_000_000))"
    parent = program.format(work=f"subprocess.run([sys.executable, '-c', {work!r}])")
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", parent], stdin=pipe, stdout=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        with resources.watched(process.pid) as seen:
            process.stdin.write(b"go\n")
            process.stdin.flush()
            process.stdout.readline()
        assert seen.child_cpu_seconds > 0.05 > seen.daemon_cpu_seconds
        assert max(seen.child_peak_mb.values()) > 60.0
        assert max(seen.child_main_cpu_seconds.values()) <= seen.child_cpu_seconds + 0.02
        assert seen.daemon_peak_mb == resources.peak_memory_mb(Path(f"/proc/{process.pid}"))
        process.stdin.write(b"end\n")

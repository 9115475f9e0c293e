"""What a process that is watched has taken."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import resources


def test_what_a_daemon_and_its_child_took_is_counted() -> None:
    wait = "print(flush=True); sys.stdin.readline()"
    work = "n = [0] * 8_000_000; t = sum(i * i for i in range(3_000_000))"
    parent = f"import sys, subprocess; {wait}; subprocess.run([sys.executable, '-c', {work!r}]); {wait}"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", parent], stdin=pipe, stdout=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()  # its own start is over
        with resources.watched(process.pid) as seen:
            process.stdin.write(b"go\n")
            process.stdin.flush()
            process.stdout.readline()
        assert seen.child_cpu_seconds > 0.1 > seen.daemon_cpu_seconds
        assert max(seen.child_peak_mb.values()) > 60.0
        assert max(seen.child_main_cpu_seconds.values()) <= seen.child_cpu_seconds + 0.02
        assert seen.daemon_peak_mb == pytest.approx(resources.peak_memory_mb(Path(f"/proc/{process.pid}")), rel=0.1)
        process.stdin.write(b"end\n")

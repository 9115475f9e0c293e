"""A daemon by socket activation: its socket is held by this process, as systemd holds it, and outlives restarts.

Law: whatever was started is gone when the block is left.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks import contenders

# Becomes the program that follows, which gets the descriptor as systemd passes a socket on (sd_listen_fds(3)).
_PASS_ON = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.execv(sys.argv[2], sys.argv[2:])
"""
_BACKLOG = 4096
_STOP_SECONDS = 15.0


class Activated:
    """Context manager: a daemon whose socket this process holds."""

    def __init__(self, work: Path) -> None:
        self._stack = contextlib.ExitStack()
        self._own = self._stack.enter_context(contenders.directory(work))
        sockets = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="hubd-bench-"))
        self.path = f"{sockets}/hubd.sock"
        self._listening = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        self._listening.bind(self.path)
        self._listening.listen(_BACKLOG)

    def __enter__(self) -> Self:
        self._process = self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        self._stack.close()

    def restart(self) -> None:
        self._stop()
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", "-m", "hubd", "run", "--user", "--cache-dir", str(self._own / "cache")]
        fd = self._listening.fileno()
        with (self._own / "hubd.log").open("a") as log:
            return subprocess.Popen(
                [sys.executable, "-c", _PASS_ON, str(fd), *command],
                stdin=subprocess.DEVNULL,
                stderr=log,
                env=contenders.clean_environment(),
                pass_fds=[fd],
            )

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise RuntimeError("the daemon did not end on SIGTERM") from None

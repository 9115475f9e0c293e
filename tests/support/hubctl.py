"""hubctl as a process of its own, told of one daemon and of nothing else on this machine."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.daemon import Daemon

COMMAND = (sys.executable, "-P", "-m", "hubclient.cli")
SECONDS = 60.0
_OTHERS = ("HUBD_", "TFHUB_", "XDG_", "KAGGLE_", "NETRC")  # what would tell of other daemons, caches and credentials


def environ_for(daemon: Daemon, **more: str) -> dict[str, str]:
    return environ_of(daemon.socket, daemon.cache.parent, **more)


def environ_of(socket: Path, home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OTHERS)}
    return {
        **kept,
        "HOME": str(home),
        "HUBD_SOCKET": str(socket),
        "HUBD_TIMEOUT": "5",
        "HUBD_AUTOSTART": "0",
        "TERM": "xterm-256color",
        **more,
    }


def hubctl(daemon: Daemon, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """A command that has ended, with its output."""
    return subprocess.run(
        [*COMMAND, *arguments], env=environ_for(daemon, **environ), capture_output=True, text=True, timeout=SECONDS
    )


class Terminal:
    """A command whose stdout and stderr are one terminal."""

    def __init__(
        self,
        environ: Mapping[str, str],
        arguments: Sequence[str],
        *,
        size: tuple[int, int] | None = None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        """`size`: columns and lines of the terminal itself, which it can change; else the environment says them."""
        self._master, slave = pty.openpty()
        if size is not None:
            termios.tcsetwinsize(self._master, size[::-1])
        self.process = subprocess.Popen(
            [*command, *arguments],
            env={**environ, "COLUMNS": "100", "LINES": "24"} if size is None else environ,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self.screen = ""

    def resize(self, columns: int, lines: int) -> None:
        """As when somebody drags the corner of a window."""
        termios.tcsetwinsize(self._master, (lines, columns))
        self.process.send_signal(signal.SIGWINCH)

    def echoes(self) -> bool:
        """Whether what is typed shows up, as in a shell."""
        return bool(termios.tcgetattr(self._master)[3] & termios.ECHO)

    def read_until(self, text: str | None, *, after: int = 0) -> str:
        """All that was written so far, as soon as the text is in it, `after` so many characters; None: until the
        command has ended."""
        deadline = time.monotonic() + SECONDS
        while text is None or text not in self.screen[after:]:
            ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"not shown in {SECONDS} s: {text!r}; but {self.screen!r}"
            try:
                piece = os.read(self._master, 65536)
            except OSError:  # EIO: nobody has the other end any more
                piece = b""
            if not piece:
                assert text is None, f"never shown: {text!r}; but {self.screen!r}"
                break
            self.screen += piece.decode()
        return self.screen

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        os.close(self._master)

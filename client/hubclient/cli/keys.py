"""Single keys from a terminal, and the signals that a screen must hear of, in one wait.

Law: the terminal gets back what it was, however the block ends.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Literal, NamedTuple

#: `resized` and `stopped` (Ctrl-Z) come as signals.
Heard = Literal["resized", "stopped"]

_SIGNALS: dict[int, Heard] = {signal.SIGWINCH: "resized", signal.SIGTSTP: "stopped"}


class Keys(NamedTuple):
    """What to wait at: the terminal, or None where nobody types, and the end of a pipe for signals."""

    terminal: int | None
    signals: int

    def wait(self, seconds: float) -> str | None:
        """The next key, or what was heard of; None when nothing was for so long."""
        ends = [end for end in (self.terminal, self.signals) if end is not None]
        ready, _, _ = select.select(ends, [], [], max(0.0, seconds))
        if self.signals in ready:
            # Some other signal has its own handler, which has run by now.
            return next((_SIGNALS[number] for number in os.read(self.signals, 64) if number in _SIGNALS), None)
        if self.terminal is not None and self.terminal in ready:
            return os.read(self.terminal, 64).decode(errors="replace") or "q"  # the terminal is gone
        return None


@contextmanager
def keys() -> Iterator[Keys]:
    """Hear single keys, unseen, until the block ends. For the main thread."""
    with ExitStack() as undo:
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        undo.callback(os.close, reading)
        undo.callback(os.close, writing)
        undo.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(writing, warn_on_full_buffer=False))
        for number in _SIGNALS:
            undo.callback(signal.signal, number, signal.signal(number, lambda *_: None))
        terminal = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
        if terminal is not None:
            undo.callback(termios.tcsetattr, terminal, termios.TCSADRAIN, termios.tcgetattr(terminal))
            tty.setcbreak(terminal, termios.TCSADRAIN)
        yield Keys(terminal, reading)


def stop_here() -> None:
    """Stop this process as Ctrl-Z does, until the shell lets it go on."""
    os.kill(os.getpid(), signal.SIGSTOP)

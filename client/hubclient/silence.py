"""A connection that tells when the other end lets one wait.

Law: it only tells. What is read, and when that is given up, is as on any connection.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from typing import Any

#: An answer begins within milliseconds, unless the daemon is stopped, hangs, or has a great lot to do.
BEGINNING_SECONDS = 3.0
#: An answer that has begun goes on every 5 s.
GOING_ON_SECONDS = 7.0


class Telling(socket.socket):
    """A connected socket that calls `tell` each time that it has waited for an answer for long."""

    def __init__(self, connection: socket.socket, tell: Callable[[float], None]) -> None:
        """Takes over `connection`. `tell` gets the seconds waited so far, in whichever thread waits."""
        super().__init__(connection.family, connection.type, connection.proto, fileno=connection.detach())
        self._tell = tell
        self._patience_seconds = BEGINNING_SECONDS

    def sendall(self, *arguments: Any) -> None:
        self._patience_seconds = BEGINNING_SECONDS
        super().sendall(*arguments)

    def recv_into(self, *arguments: Any) -> int:
        waiting = select.poll()
        waiting.register(self, select.POLLIN)
        if not waiting.poll(self._patience_seconds * 1000):
            self._tell(self._patience_seconds)
        self._patience_seconds = GOING_ON_SECONDS
        return super().recv_into(*arguments)

"""Ports on loopback for programs that are told where to listen.

Law: until the block ends nobody else is given the port, though the program takes its time to listen there.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def reserved_port() -> Iterator[int]:
    """One that a socket is bound to and does not listen on. The program shares it by SO_REUSEADDR (socket(7)), as
    servers do; whoever asks for any port, or connects from any, gets another one.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield int(holder.getsockname()[1])

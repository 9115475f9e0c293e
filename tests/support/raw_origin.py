"""Servers on loopback below HTTP: what goes over the wire, and whether anything does, is the test's."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

_WAIT_SECONDS = 60


@contextmanager
def raw_origin(answer: Callable[[socket.socket], None], *, scheme: str = "http", hears: bool = True) -> Iterator[str]:
    """A server that reads each request's head and leaves the rest to `answer`; yields a URL there.

    Unless it `hears`: then `answer` has a connection on which nothing was read. Each has a thread of its own.
    """
    threads: list[threading.Thread] = []

    def serve_one(connection: socket.socket) -> None:
        with connection:
            connection.settimeout(_WAIT_SECONDS)
            try:
                head = b""
                while hears and b"\r\n\r\n" not in head and (piece := connection.recv(65536)):
                    head += piece
                answer(connection)
                # A close with unread or unsent bytes would be a reset.
                connection.shutdown(socket.SHUT_WR)
            except OSError:  # the client has hung up
                return

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:  # shut down: the test is over
                return
            threads.append(threading.Thread(target=serve_one, args=(connection,)))
            threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        accepting = threading.Thread(target=serve)
        accepting.start()
        try:
            yield f"{scheme}://127.0.0.1:{listening.getsockname()[1]}/m/1"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            for thread in (accepting, *threads):
                thread.join()


@contextmanager
def sending(data: bytes) -> Iterator[str]:
    """A server that answers each request with just these bytes; yields a URL there."""
    with raw_origin(lambda connection: connection.sendall(data)) as url:
        yield url


def until_hung_up(connection: socket.socket) -> None:
    """Returns when the other side has closed the connection: whatever it sends is read, and nothing answered."""
    while connection.recv(65536):
        pass


@contextmanager
def deaf_origin() -> Iterator[str]:
    """An address where the kernel drops each new connection: its queue is full, and nobody takes from it."""
    with socket.socket() as listening, ExitStack() as stack:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(2):  # the kernel lets in one more than was said
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/m/1"

"""What a client meets on a socket, scripted: a real HTTP server on a Unix socket that answers as it is told."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

#: Gets a request and the connection; sends what it likes. The connection stays open when it returns True.
Script = Callable[["Asked", socket.socket], bool]


class Asked:
    """A request as it came."""

    def __init__(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> None:
        self.method = method
        self.path = path
        self.headers = headers
        self.body: dict[str, Any] = json.loads(body) if body else {}


def answer(body: Mapping[str, Any], status: int = 200, kind: str = "application/json") -> Script:
    """A plain JSON answer."""

    def script(_: Asked, connection: socket.socket) -> bool:
        data = json.dumps(body).encode()
        connection.sendall(
            f"HTTP/1.1 {status} Whatever\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data
        )
        return True

    return script


def problem(code: str, status: int, detail: str = "the reason", **fields: Any) -> Script:
    """A problem+json answer."""
    body = {"title": code, "status": status, "code": code, "detail": detail, "retryable": False, **fields}
    return answer(body, status, "application/problem+json")


def stream(events: Sequence[Mapping[str, Any]], *, cut: bool = False) -> Script:
    """A chunked NDJSON answer; `cut`: the connection is closed after the events."""

    def script(_: Asked, connection: socket.socket) -> bool:
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for event in events:
            line = json.dumps(event).encode() + b"\n"
            connection.sendall(b"%x\r\n%b\r\n" % (len(line), line))
        if not cut:
            connection.sendall(b"0\r\n\r\n")
        return not cut

    return script


def by_path(scripts: Mapping[str, Script]) -> Script:
    """A script for each path; of others the daemon says what it says where there is no route."""
    missing = problem("not-found", 404, "there is no such route here; on the socket, GET /v1/openapi.json lists all")
    return lambda asked, connection: scripts.get(asked.path, missing)(asked, connection)


def progress(received_bytes: int = 1) -> dict[str, Any]:
    return {"event": "progress", "fetch": {"id": "f", "received_bytes": received_bytes}}


def resolved(path: str, **fields: Any) -> dict[str, Any]:
    return {"event": "resolved", "result": {"path": path, "outcome": "hit", "warnings": [], **fields}}


def hang_up(_: Asked, connection: socket.socket) -> bool:
    """No answer at all."""
    return False


class ScriptedDaemon:
    """Context manager: plays a script for each request, the last one for all that follow."""

    def __init__(self, path: Path, *scripts: Script) -> None:
        self.path = str(path)
        self.asked: list[Asked] = []
        self.connections = 0
        self._scripts = list(scripts)
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._listener.bind(self.path)
        self._listener.listen(128)
        self._spawn(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join()  # whom it let in last is among the open ones by now
        with self._lock:
            for connection in self._open:
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        Path(self.path).unlink()

    def hang_up_idle(self) -> None:
        """Close every open connection from this side."""
        with self._lock:
            for connection in self._open:
                connection.shutdown(socket.SHUT_RDWR)

    def _spawn(self, target: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with self._lock:
                self._open.append(connection)
            self._spawn(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection.makefile("rb") as reader:
                while (asked := _read_request(reader)) is not None:
                    with self._lock:
                        self.asked.append(asked)
                        script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
                    if not script(asked, connection):
                        return
        except OSError:
            return  # the client hung up first
        finally:
            with self._lock:
                self._open.remove(connection)
            connection.close()


def _read_request(reader: Any) -> Asked | None:
    first = reader.readline().decode().split()
    if len(first) != 3:
        return None
    headers = {}
    while (line := reader.readline().decode().strip()) != "":
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return Asked(first[0], first[1], headers, reader.read(int(headers.get("content-length", "0"))))

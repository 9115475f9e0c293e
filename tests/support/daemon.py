"""A real daemon in a process of its own, on a real socket."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.process import Process
from tests.support.waiting import wait_until

_START_SECONDS = 60.0

# Becomes the program that follows, which gets the descriptor as systemd passes a socket on (sd_listen_fds(3)).
_PASS_ON = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.execv(sys.argv[2], sys.argv[2:])
"""


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout_seconds: float = 60.0) -> None:
        super().__init__("localhost", timeout=timeout_seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ask(socket_path: Path, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """Status and JSON of one request, over a connection of its own."""
    connection = UnixConnection(str(socket_path))
    try:
        connection.request(method, path, json.dumps(body) if body is not None else None)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


class Daemon(Process):
    """Context manager: `hubd run --user` on a cache and a socket. Its log is in `log`."""

    def __init__(
        self,
        directory: Path,
        *,
        config: str = "",
        arguments: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        preexec: Any = None,
        wrapper: Sequence[str] = (),
        passed: socket.socket | None = None,
    ) -> None:
        """`passed`: a socket that listens at this daemon's `socket` already, passed on as systemd does."""
        self.cache = directory / "cache"
        self.socket = directory / "hubd.sock"
        self.log = directory / "hubd.log"
        self.config = directory / "hubd.toml"
        # How full the disk of the machine is decides no test, unless the test says so.
        if "[cache]" not in config:
            config = f'[cache]\nmin_free = "0B"\n{config}'
        # Nor do tests wait for tries that are bound to fail, unless they are about that.
        if "[network]" not in config:
            config += "\n[network]\n"
        if "retries" not in config:
            config = config.replace("[network]\n", "[network]\nretries = 0\n")
        self.config.write_text(config)
        self._arguments = arguments
        self._environ = {**os.environ, "HUBD_AUTOSTART": "0", **(environ or {})}
        self._preexec = preexec
        self._wrapper = wrapper
        self._passed = passed

    @property
    def client_environ(self) -> dict[str, str]:
        """The environment of programs that use this daemon."""
        return {**self._environ, "HUBD_SOCKET": str(self.socket), "HUBD_TIMEOUT": "20"}

    def start(self, *, wait: bool = True) -> None:
        """Returns when the socket answers; AssertionError with the log when the daemon ends before."""
        command = [*self._wrapper, sys.executable, "-P", "-m", "hubd", "run", "--user", "--config", str(self.config)]
        command += ["--cache-dir", str(self.cache), "--socket", str(self.socket), *self._arguments]
        fds = [self._passed.fileno()] if self._passed is not None else []
        for fd in fds:
            command = [sys.executable, "-c", _PASS_ON, str(fd), *command]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environ,
                preexec_fn=self._preexec,
                pass_fds=fds,
            )
        deadline = time.monotonic() + _START_SECONDS
        while wait and not self.answers():
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, f"no answer: {self.log.read_text()}"
            time.sleep(0.02)

    def answers(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(self.socket))
            except OSError:
                return False
            return True

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.wait()
        # A child that it was just forking has the listening socket too, until it is another program.
        wait_until(lambda: not self.answers())

    def request(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and JSON of one request."""
        return ask(self.socket, method, path, body)

    def lines(self, method: str, path: str, body: Any = None) -> list[Any]:
        """The NDJSON lines that a request is answered with, when all have come."""
        connection = UnixConnection(str(self.socket))
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None)
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            return [json.loads(line) for line in answer]
        finally:
            connection.close()

    def resolve(self, handle: str, **fields: Any) -> tuple[int, Any]:
        return self.request("POST", "/v1/resolve", {"handle": handle, **fields})

    @contextmanager
    def events(self, handle: str, **fields: Any) -> Iterator[Iterator[Any]]:
        """The NDJSON events of a resolve, while they come; leaving the block hangs up."""
        with self.stream("/v1/resolve", {"handle": handle, **fields}) as events:
            yield events

    @contextmanager
    def stream(self, path: str, body: Any) -> Iterator[Iterator[Any]]:
        """The NDJSON events that a POST is answered with, while they come; leaving the block hangs up."""
        connection = UnixConnection(str(self.socket))
        try:
            connection.request("POST", path, json.dumps(body), {"Accept": "application/x-ndjson"})
            answer = connection.getresponse()
            yield (json.loads(line) for line in answer)
        finally:
            connection.close()

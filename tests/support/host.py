"""A real `hubd host` in a process of its own."""

from __future__ import annotations

import http.client
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.support.ports import reserved_port
from tests.support.process import Process
from tests.support.waiting import wait_until

COMPRESSED = "?tf-hub-format=compressed"


class Answered(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes


class Host(Process):
    """Context manager: hosts the directory `library`. Its log is in `log`."""

    def __init__(self, directory: Path, *arguments: str, wrapper: Sequence[str] = ()) -> None:
        self.library = directory / "library"
        self.cache = directory / "archives"
        self.log = directory / "host.log"
        self.library.mkdir(exist_ok=True)
        self._holding = ExitStack()
        self.port = self._holding.enter_context(reserved_port())
        self._command = [*wrapper, sys.executable, "-P", "-m", "hubd", "host", str(self.library)]
        self._command += ["--listen", f"127.0.0.1:{self.port}", "--cache-dir", str(self.cache), *arguments]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        process = self._process
        wait_until(lambda: process.poll() is not None or self._answers())
        assert process.poll() is None, self.log.read_text()

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def get(self, path: str, headers: Mapping[str, str] | None = None, method: str = "GET") -> Answered:
        with self.asked(path, headers, method) as answer:
            return Answered(answer.status, answer.headers, answer.read())

    @contextmanager
    def asked(
        self, path: str, headers: Mapping[str, str] | None = None, method: str = "GET"
    ) -> Iterator[http.client.HTTPResponse]:
        """The answer while it comes; leaving the block hangs up."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, headers=dict(headers or {}))
            yield connection.getresponse()
        finally:
            connection.close()

    def has(self, name: str) -> bool:
        """Whether the log tells of this version."""
        return re.search(rf"library: {re.escape(name)} is there", self.log.read_text()) is not None

    def await_version(self, name: str) -> None:
        wait_until(lambda: self.has(name))

    def peak_memory_bytes(self) -> int:
        with open(f"/proc/{self.pid}/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))

    def children(self) -> list[int]:
        with open(f"/proc/{self.pid}/task/{self.pid}/children") as file:
            return [int(pid) for pid in file.read().split()]

    def close(self) -> None:
        self._holding.close()
        super().close()

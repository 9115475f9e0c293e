"""Who is measured: hubd with hubclient, tensorflow_hub, and plain transfers as the floor.

Law: each contender starts from an empty cache of its own, runs in fresh processes, and is gone, cache and all, before
the next one starts. Only a cache that a row brings along, because its size is the question, is kept.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

PROBE = Path(__file__).with_name("probe.py")
TIMEOUT_SECONDS = 600
_DAEMON_TIMEOUT_SECONDS = 15


class Resolved(NamedTuple):
    """What processes got that asked for one module at once."""

    seconds: float  # from the start signal until the last has its path
    paths: list[str]
    cpu_seconds: float  # of the processes together, while they waited
    peak_mb: float  # of the largest process, its imports included


@dataclass(frozen=True)
class Library:
    """A Python that has `name` installed, and the environment that its processes get."""

    name: str
    python: Path
    environment: Mapping[str, str]

    def probe(self, *arguments: str) -> dict[str, Any]:
        """Run one probe that needs no start signal; its answer."""
        return probe(self.python, arguments, self.environment)

    def resolve(self, handle: str, processes: int = 1) -> Resolved:
        begun, answers = at_once(self.command("resolve", self.name, handle), self.environment, processes)
        return Resolved(
            max(answer["ended"] for answer in answers) - begun,
            [answer["path"] for answer in answers],
            sum(answer["cpu_seconds"] for answer in answers),
            max(answer["peak_mb"] for answer in answers),
        )

    def from_start(self, *arguments: str) -> tuple[float, dict[str, Any]]:
        """Seconds from the start of a process until it answers, and the answer of its probe."""
        begun = time.monotonic()
        with _process(self.command(*arguments), self.environment) as process:
            line = _readline(process)
            return time.monotonic() - begun, json.loads(line)

    def command(self, *arguments: str) -> list[str]:
        return [str(self.python), "-P", str(PROBE), *arguments]


def at_once(
    command: list[str], environment: Mapping[str, str], processes: int = 1
) -> tuple[float, list[dict[str, Any]]]:
    """Probes that wait for a start signal: when they got it, by CLOCK_MONOTONIC, and their answers."""
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(_process(command, environment)) for _ in range(processes)]
        for process in running:
            _readline(process, "ready")
        begun = time.monotonic()
        for process in running:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        return begun, [json.loads(_readline(process)) for process in running]


def probe(python: Path, arguments: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any]:
    with _process([str(python), "-P", str(PROBE), *arguments], environment) as process:
        answer: dict[str, Any] = json.loads(_readline(process))
        return answer


@contextlib.contextmanager
def directory(parent: Path) -> Iterator[Path]:
    """A fresh directory on the disk that is measured; afterwards it is gone, and what was written is settled."""
    parent.mkdir(parents=True, exist_ok=True)
    path = Path(tempfile.mkdtemp(dir=parent))
    try:
        yield path
    finally:
        shutil.rmtree(path)
        # What one contender left to be written must not slow down the next one.
        os.sync()


@contextlib.contextmanager
def tensorflow_hub(python: Path, work: Path) -> Iterator[Library]:
    """tensorflow_hub with an empty cache."""
    with directory(work) as cache:
        environment = clean_environment() | {"TFHUB_CACHE_DIR": str(cache), "TF_CPP_MIN_LOG_LEVEL": "3"}
        yield Library("tensorflow_hub", python, environment)


@dataclass(frozen=True)
class Daemon:
    pid: int
    socket: str
    started_at: float  # of time.monotonic()
    ready_seconds: float

    def memory_mb(self) -> tuple[float, float]:
        """Resident and proportional set size (proc_pid_smaps(5))."""
        sizes = {
            line.split(":")[0]: int(line.split()[1]) * 1024 / 1e6
            for line in Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines()[1:]
        }
        return sizes["Rss"], sizes["Pss"]

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The JSON of one request."""
        (answer,) = self.stream(method, path, body)
        return answer

    def stream(self, method: str, path: str, body: Any = None) -> Iterator[Any]:
        """The lines of JSON that answer one request, over a connection of its own, as they come."""
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(TIMEOUT_SECONDS)
        try:
            connection.sock.connect(self.socket)
            connection.request(method, path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            if answer.status != 200:
                raise RuntimeError(f"{method} {path}: {answer.read().decode(errors='replace')}")
            yield from map(json.loads, answer)
        finally:
            connection.close()

    def library(self) -> Library:
        """hubclient, told of this daemon."""
        environment = clean_environment() | {"HUBD_SOCKET": self.socket, "HUBD_AUTOSTART": "0"}
        return Library("hubclient", Path(sys.executable), environment)


@contextlib.contextmanager
def hubd(work: Path, cache: Path | None = None, *, config: str = "") -> Iterator[Daemon]:
    """A daemon with an empty cache, or with `cache`, which stays; ready when the block begins, gone when it is left.

    `config`: its settings, if not the defaults.
    """
    # The socket's path may have 107 bytes at most, and the clone may lie deep: hence a directory in the usual place.
    with directory(work) as own, tempfile.TemporaryDirectory(prefix="hubd-bench-") as sockets:
        path = f"{sockets}/hubd.sock"
        command = [sys.executable, "-P", "-m", "hubd", "run", "--user"]
        command += ["--cache-dir", str(cache or own / "cache"), "--socket", path]
        if config:
            (own / "hubd.toml").write_text(config)
            command += ["--config", str(own / "hubd.toml")]
        with (own / "hubd.log").open("w") as log:
            begun = time.monotonic()
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log, env=clean_environment())
        try:
            _wait_for_answer(path, process, own / "hubd.log")
            yield Daemon(process.pid, path, begun, time.monotonic() - begun)
        finally:
            _stop(process)


def timed(command: Sequence[str]) -> float:
    """Seconds from the start of a command to its end."""
    begun = time.monotonic()
    finished = subprocess.run(
        command,
        env=clean_environment(),
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=TIMEOUT_SECONDS,
        cwd="/",  # `python -c` would look for modules in the clone
    )
    seconds = time.monotonic() - begun
    if finished.returncode != 0:
        raise RuntimeError(f"{command[0]} failed:\n{finished.stderr.decode(errors='replace')[-2000:]}")
    return seconds


def clean_environment() -> dict[str, str]:
    """The caller's environment without settings of the contenders."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("HUBD_", "TFHUB_", "PYTHON"))}


@contextlib.contextmanager
def _process(command: list[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _readline(process: subprocess.Popen[str], expected: str = "") -> str:
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if not line or (expected and line != expected):
        _, errors = process.communicate(timeout=TIMEOUT_SECONDS)
        raise RuntimeError(f"a contender failed:\n{errors.strip()[-2000:]}")
    return line


def _wait_for_answer(path: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _DAEMON_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_DAEMON_TIMEOUT_SECONDS)
            connection.connect(path)
            connection.sendall(b"GET /v1/status HTTP/1.1\r\nHost: hubd\r\nConnection: close\r\n\r\n")
            if connection.recv(64).startswith(b"HTTP/1.1 200"):
                return
        time.sleep(0.002)
    raise RuntimeError(f"the daemon does not answer:\n{log.read_text()[-2000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_DAEMON_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise RuntimeError("the daemon did not end on SIGTERM") from None

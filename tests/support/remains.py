"""What a daemon still has of fetches that are over: processes, connections, threads, files."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.daemon import Daemon
from tests.support.waiting import wait_until

_ESTABLISHED_TO_CLOSING = frozenset(range(1, 12)) - {
    6,
    10,
}  # include/net/tcp_states.h; TIME_WAIT and LISTEN are no one's


def children(pid: int) -> list[int]:
    """Processes that it has started and not waited for."""
    return [int(child) for task in _tasks(pid) for child in _text(task / "children").split()]


def thread_count(pid: int) -> int:
    return len(_tasks(pid))


def most_memory_bytes(pid: int) -> int:
    """The most that was in memory of the process, at any time."""
    status = dict(line.split(":", 1) for line in _text(Path(f"/proc/{pid}/status")).splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


def memory_bytes(daemon: Daemon) -> int:
    """What is in memory of the process now."""
    return int(_text(Path(f"/proc/{daemon.pid}/statm")).split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors(daemon: Daemon) -> int:
    """The files that the process has open."""
    return len(os.listdir(f"/proc/{daemon.pid}/fd"))


def connections(pid: int, port: int) -> int:
    """TCP connections that the process has to this port on loopback."""
    sockets = {_link(descriptor) for descriptor in Path(f"/proc/{pid}/fd").iterdir()}
    found = 0
    for line in _text(Path(f"/proc/{pid}/net/tcp")).splitlines()[1:]:
        fields = line.split()
        is_there = int(fields[2].partition(":")[2], 16) == port and int(fields[3], 16) in _ESTABLISHED_TO_CLOSING
        found += is_there and f"socket:[{fields[9]}]" in sockets
    return found


def staged(daemon: Daemon) -> list[list[str]]:
    """The names in each place in ``staging/``."""
    return [sorted(os.listdir(place)) for place in (daemon.cache / "staging").iterdir()]


def assert_nothing_remains(daemon: Daemon, url: str, *, partial: bool = False, kept_connections: int = 1) -> None:
    """Within moments nothing is left of the fetches from there, but what a later one can go on from.

    A connection whose answer has been read whole is kept for the next request.
    """
    port = urlsplit(url).port
    assert port is not None
    wait_until(lambda: daemon.request("GET", "/v1/fetches")[1]["fetches"] == [])
    wait_until(lambda: children(daemon.pid) == [])
    wait_until(lambda: connections(daemon.pid, port) <= kept_connections)
    wait_until(lambda: os.listdir(daemon.cache / "trash") == [])
    assert staged(daemon) == ([["archive.part", "transfer.json"]] if partial else [])
    assert "Traceback" not in daemon.log.read_text()


def _tasks(pid: int) -> list[Path]:
    return list(Path(f"/proc/{pid}/task").iterdir())


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:  # it has just ended
        return ""


def _link(path: Path) -> str:
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return ""

"""A network of its own for a test: a hub, where the test and its servers are, and hosts around it.

Law: each host is in a network namespace of its own and reaches the hub alone, by two links: one to the origin, one to
the store. Nothing of it is outside of the block, and nothing outlives the test run: namespaces go with who holds them.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

ORIGIN = "10.99.0.1"  #: where servers of the hub are reached by each host's first link,
STORE = "10.99.0.2"  #: and by its second one

_CLONE_NEWNET = 0x40000000  # linux/sched.h
_QUEUE = "burst 256kb latency 50ms"
_ADDRESSES = {"origin": ORIGIN, "store": STORE}


@dataclass(frozen=True)
class Link:
    """Bytes per second that a link carries to its host, and from there; None: whatever it can."""

    down: int | None = None
    up: int | None = None


class Star:
    """The hosts, while the block of `star` lasts."""

    def __init__(self, hosts: list[int]) -> None:
        self._hosts = hosts

    def wrapper(self, host: int) -> list[str]:
        """What to put before a command so that it runs on that host, and ends with the thread that starts it."""
        return ["setpriv", "--pdeathsig", "KILL", "nsenter", f"--net=/proc/{os.getpid()}/fd/{self._hosts[host]}"]

    @contextmanager
    def parted(self, host: int) -> Iterator[None]:
        """Without a word from the store to this host: what it sends arrives, and all answers are lost."""
        there = f"{_host_end(host, 'store')}/32"
        _run("ip", "route", "replace", "blackhole", there)
        try:
            yield
        finally:
            _run("ip", "route", "replace", there, "dev", f"store{host}", "src", _hub_end(host, "store"))


def missing() -> str | None:
    """Why there can be no such network on this machine; None: there can."""
    if os.geteuid() != 0:
        return "only root can make network namespaces and links between them"
    if absent := [program for program in ("ip", "tc", "nsenter", "setpriv") if shutil.which(program) is None]:
        return f"this machine has no {', '.join(absent)} (apt-get install iproute2 util-linux)"
    try:
        with star(1, store=Link(down=10**6)):
            return None
    except (OSError, subprocess.CalledProcessError) as error:
        told = error.stderr if isinstance(error, subprocess.CalledProcessError) else error
        return f"this machine permits no network of its own: {told}"


@contextmanager
def star(hosts: int, *, origin: Link = Link(), store: Link = Link()) -> Iterator[Star]:
    """So many hosts. The calling thread, the threads and the processes that it starts in the block are in the hub."""
    outside = _here()
    held = [outside]
    try:
        _enter_new()
        hub = _here()
        held.append(hub)
        _run("ip", "link", "set", "lo", "up")
        _batch(f"address add {address}/32 dev lo" for address in _ADDRESSES.values())
        inside = []
        for number in range(hosts):
            _enter_new()
            inside.append(_here())
            held.append(inside[-1])
            _run("ip", "link", "set", "lo", "up")
            _enter(hub)
            for name, link in (("origin", origin), ("store", store)):
                _connect(number, name, link, inside[-1])
        yield Star(inside)
    finally:
        _enter(outside)
        for namespace in held:
            os.close(namespace)


def _connect(host: int, name: str, link: Link, namespace: int) -> None:
    here, there = f"{name}{host}", f"to-{name}"
    _batch(
        [
            f"link add {here} type veth peer name {there} netns /proc/{os.getpid()}/fd/{namespace}",
            f"address add {_hub_end(host, name)} peer {_host_end(host, name)} dev {here}",
            f"link set {here} up",
        ]
    )
    _limit(here, link.down)
    hub = _here()
    _enter(namespace)
    try:
        _batch(
            [
                f"address add {_host_end(host, name)} peer {_hub_end(host, name)} dev {there}",
                f"link set {there} up",
                f"route add {_ADDRESSES[name]}/32 via {_hub_end(host, name)} dev {there}",
            ]
        )
        _limit(there, link.up)
    finally:
        _enter(hub)
        os.close(hub)


def _limit(device: str, bytes_per_second: int | None) -> None:
    if bytes_per_second is not None:
        _run("tc", "qdisc", "add", "dev", device, "root", "tbf", "rate", f"{bytes_per_second * 8}bit", *_QUEUE.split())


def _hub_end(host: int, name: str) -> str:
    return f"10.98.{host}.{1 if name == 'origin' else 5}"


def _host_end(host: int, name: str) -> str:
    return f"10.98.{host}.{2 if name == 'origin' else 6}"


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


def _batch(commands: Iterator[str] | list[str]) -> None:
    """Several commands of `ip`, by one process."""
    subprocess.run(["ip", "-batch", "-"], input="\n".join(commands), check=True, capture_output=True, text=True)


def _here() -> int:
    """The calling thread's network namespace, held open."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _enter_new() -> None:
    _check(ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET))


def _enter(namespace: int) -> None:
    _check(ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET))


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

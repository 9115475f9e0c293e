"""A site: hosts with narrow lines to one store, and an origin that they all reach.

Law: the store is S3 (moto) behind nginx with docs/operations/nginx-cache.conf, as before a store of one's own. moto
copies a whole object for each range of it, so without that it would be moto that is measured.
"""

from __future__ import annotations

import gzip
import hashlib
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from hubclient.contract import handles
from tests.support import nginx
from tests.support.archives import END, MODULE, members
from tests.support.daemon import Daemon
from tests.support.object_stores import AWS_KEYS, S3Server, secret
from tests.support.origin import Answer, Origin
from tests.support.star import ORIGIN, STORE, Link, Star, star
from tests.support.waiting import wait_until

EXAMPLE = Path(__file__).parents[2] / "docs/operations/nginx-cache.conf"
PATH = "/m/1"
_BUCKET, _PREFIX = "fleet", "shared"


@dataclass(frozen=True)
class Module:
    """What the origin has. It is not compressed, so that the lines and not two cores are what takes the time."""

    noise: bytes
    archive: bytes
    digest: str


def module_of(size_bytes: int) -> Module:
    noise = random.Random(size_bytes).randbytes(size_bytes)
    packed = gzip.compress(members({**MODULE, "assets/noise": noise}) + END, 0, mtime=0)
    return Module(noise, packed, hashlib.sha256(packed).hexdigest())


class Had(NamedTuple):
    """A machine has the module, whole."""

    seconds: float
    tier: str


class Crowd(NamedTuple):
    """All machines at once, and then one that takes what is in the store. `seconds_to_record`: since all began.
    `machines`: all of these, the one last."""

    all: list[Had]
    seconds_to_record: float
    one: Had
    machines: list[Daemon]

    @property
    def seconds(self) -> float:
        return longest(self.all)


class Site:
    """Made by `site`, for its block."""

    def __init__(self, hosts: Star, origin: Origin, store: S3Server, port: int, place: Path, stack: ExitStack) -> None:
        self.hosts = hosts
        self.origin = origin
        self._store = store
        self._port = port
        self._place = place
        self._stack = stack

    def serve(self, module: Module) -> str:
        """The handle by which the origin has the module. It tells no version, so each fetch of it is one request."""
        return self.origin.serve(PATH, Answer(module.archive))

    def machine(self, host: int, more: str = "") -> Daemon:
        """A daemon with an empty cache that runs on that host. `more`: of its settings."""
        directory = self._place / str(host)
        directory.mkdir(mode=0o700)
        config = f'[fleet]\nstore = "s3://{_BUCKET}/{_PREFIX}"\n{more}'
        config += self._store.settings().replace(f"127.0.0.1:{self._store.port}", f"{STORE}:{self._port}")
        config += secret(directory, f"s3://{_BUCKET}", "aws-keys", AWS_KEYS)
        return self._stack.enter_context(Daemon(directory, config=config, wrapper=self.hosts.wrapper(host)))

    def has_record(self, handle: str) -> bool:
        return self._store.get(_BUCKET, f"{_PREFIX}/handles/{handles.key(handle)}.json") is not None

    def crowd(self, hosts: int, module: Module) -> Crowd:
        """The first `hosts` hosts ask at once for what nobody has, and then one more."""
        handle = self.serve(module)
        machines = [self.machine(host) for host in range(hosts)]
        began = time.monotonic()
        shared_at: list[float] = []

        def watch() -> None:
            wait_until(lambda: self.has_record(handle))
            shared_at.append(time.monotonic())

        watching = threading.Thread(target=watch)
        watching.start()
        had = _at_once(machines, handle, module)
        watching.join()
        machines.append(self.machine(hosts))
        return Crowd(had, shared_at[0] - began, fetched(machines[-1], handle, module), machines)

    def again(self, crowd: Crowd, module: Module) -> list[Had]:
        """The same machines at once, with another module that the last one has put into the store: nobody waits for
        another one then, and all else has as much to do."""
        handle = self.origin.serve("/m/2", Answer(module.archive))
        fetched(crowd.machines[-1], handle, module)
        wait_until(lambda: self.has_record(handle))
        return _at_once(crowd.machines[:-1], handle, module)


@contextmanager
def site(place: Path, hosts: int, store: Link) -> Iterator[Site]:
    """So many hosts. The calling thread is where the servers are."""
    with ExitStack() as stack:
        made = stack.enter_context(star(hosts, store=store))
        origin = stack.enter_context(Origin(address=ORIGIN))
        moto = stack.enter_context(S3Server(place))
        moto.make(_BUCKET)
        port = stack.enter_context(nginx.cache(place / "nginx", EXAMPLE, STORE, store=f"127.0.0.1:{moto.port}"))
        yield Site(made, origin, moto, port, place, stack)


def fetched(machine: Daemon, handle: str, module: Module) -> Had:
    """Asks, and has all of it."""
    began = time.monotonic()
    status, told = machine.resolve(handle)
    seconds = time.monotonic() - began
    assert (status, told.get("outcome")) == (200, "fetched"), told
    assert told["digest"] == module.digest
    assert (Path(told["path"]) / "assets" / "noise").read_bytes() == module.noise
    return Had(seconds, told["tier"])


def longest(had: list[Had]) -> float:
    return max(one.seconds for one in had)


def _at_once(machines: list[Daemon], handle: str, module: Module) -> list[Had]:
    with ThreadPoolExecutor(len(machines)) as asking:
        return list(asking.map(lambda machine: fetched(machine, handle, module), machines))

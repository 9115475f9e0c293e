"""Daemons of one fleet: a cache of its own each, and one bucket below a prefix that no other test uses."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from hubclient.contract import handles
from tests.support.daemon import Daemon
from tests.support.object_stores import AWS_KEYS, S3Server, secret
from tests.support.waiting import wait_until

BUCKET = "fleet"
_PREFIXES = itertools.count()


class Machines:
    """Of one test, or of one file."""

    def __init__(self, directory: Path, store: S3Server) -> None:
        store.make(BUCKET)  # which may be there already
        self.store = store
        self.prefix = f"p{next(_PREFIXES)}"
        self._directory = directory
        self._made: Counter[str] = Counter()

    def config(
        self,
        *,
        fleet: str = "",
        network: str = "",
        more: str = "",
        endpoint: str | None = None,
        bucket: str = BUCKET,
        cache: str = "",
        claim_timeout: str = "30s",
    ) -> str:
        """`endpoint`: where the store is thought to be, if not where it is."""
        credential = secret(self._directory, f"s3://{bucket}", "aws-keys", AWS_KEYS)
        settings = self.store.settings()
        if endpoint is not None:
            settings = settings.replace(self.store.endpoint, endpoint)
        named = f'[fleet]\nstore = "s3://{bucket}/{self.prefix}"\nclaim_timeout = "{claim_timeout}"\n{fleet}\n'
        limits = f'[cache]\nmin_free = "0B"\n{cache}\n' if cache else ""
        return f"{limits}{named}[network]\n{network}\n{settings}{credential}{more}"

    def machine(self, name: str, **changes: Any) -> Daemon:
        """One that was never there, with changes of `config`."""
        self._made[name] += 1
        directory = self._directory / f"{name}{self._made[name]}"
        directory.mkdir(0o700)
        return Daemon(directory, config=self.config(**changes))

    def object(self, path: str) -> bytes | None:
        return self.store.get(BUCKET, f"{self.prefix}/{path}")

    def put(self, path: str, data: bytes) -> None:
        self.store.put(BUCKET, f"{self.prefix}/{path}", data)

    def remove(self, path: str) -> None:
        target = f"/{BUCKET}/{self.prefix}/{path}"
        status, _ = self.store.request("DELETE", target, b"", {"Authorization": S3Server._SIGNED})
        assert status == 204

    def record(self, handle: str) -> dict[str, Any] | None:
        return self._json(f"handles/{handles.key(handle)}.json")

    def claim(self, handle: str) -> dict[str, Any] | None:
        return self._json(f"claims/{handles.key(handle)}.json")

    def wait_until_shared(self, handle: str) -> None:
        """Until the fleet has it, and nobody's claim is left."""
        wait_until(lambda: self.record(handle) is not None and self.claim(handle) is None)

    def _json(self, path: str) -> dict[str, Any] | None:
        data = self.object(path)
        found: dict[str, Any] | None = json.loads(data) if data is not None else None
        return found


class Came(NamedTuple):
    """How a machine answered."""

    outcome: str
    tier: str
    digest: str


def came(daemon: Daemon, handle: str, **fields: object) -> Came:
    """How a module was had. `fields`: as of `resolve`."""
    status, answer = daemon.resolve(handle, **fields)
    assert status == 200, answer
    return Came(answer["outcome"], answer["tier"], answer["digest"])


def fleet(daemon: Daemon) -> dict[str, Any]:
    """How the store is, as the daemon tells it."""
    status, answer = daemon.request("GET", "/v1/fleet")
    assert status == 200, answer
    told: dict[str, Any] = answer
    return told


def staged(daemon: Daemon) -> list[str]:
    """What lies in its cache's staging directory."""
    return sorted(path.name for path in (daemon.cache / "staging").iterdir())

"""What is demanded of a module: the digest that a caller names, or what the lock file says that HUBD_LOCK names.

Law: with a lock file nothing is given that is not in it, and of what is in it nothing of other content: not from the
cache, not from the daemon, and not for want of either.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from hubclient.contract.errors import DigestMismatch, HandleForbidden, NotFound, RequestInvalid
from hubclient.contract.handles import canonical, key
from hubclient.contract.layout import is_digest, layout_of_module

if TYPE_CHECKING:
    from hubclient.cache import Tree
    from hubclient.contract.lock_file import Locked
    from hubclient.daemon import Daemon
    from hubclient.exchange import Progress

_MAX_MANIFEST_BYTES = 256 << 20


class Demand(NamedTuple):
    """What a module must be.

    `digest` is its archive's sha256, None for any; where `content_digest` is given, another archive of that content is
    as good: hosts that pack on the fly send other bytes each time.
    """

    digest: str | None = None
    content_digest: str | None = None


_NOTHING = Demand()


class Demands:
    """What this process demands of each handle. Thread-safe without locks."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._files: dict[str, _LockFile] = {}
        self._same: dict[str, str] = {}  # by content digest: the digest of the tree that was found to have it

    def of(self, handle: str, key: str, digest: str | None) -> Demand:
        """What is demanded of a handle by a caller who names `digest`, or none.

        Raises `RequestInvalid` for what is no digest, or a lock file that is none; `HandleForbidden` for what is not
        in it; and `DigestMismatch` when caller and lock file contradict each other.
        """
        demanded = None if digest is None else _hex(digest)
        name = self._environ.get("HUBD_LOCK")
        if not name:
            return _NOTHING if demanded is None else Demand(demanded)
        file = self._files.get(name) or self._files.setdefault(name, _LockFile(name))
        locked = file.modules().get(key)
        if locked is None:
            raise HandleForbidden(f"{handle} is not in the lock file {name}: `hubctl lock` adds it")
        if demanded not in (None, locked.digest):
            raise DigestMismatch(f"{demanded} is demanded of {handle}, and {locked.digest} by the lock file {name}")
        if demanded is not None:
            return Demand(demanded)
        return Demand(self._same.get(locked.content_digest, locked.digest), locked.content_digest)

    def are_met(self, demand: Demand, tree: Tree) -> bool:
        """Whether a tree of the cache, on which there is a lease, is what is demanded."""
        if demand.digest in (None, tree.digest):
            return True
        if demand.content_digest is None or _content_digest(tree.path) != demand.content_digest:
            return False
        self._same[demand.content_digest] = tree.digest
        return True


def resolve(
    daemon: Daemon,
    handle: str,
    demand: Demand,
    *,
    refresh: bool = False,
    offline: bool = False,
    progress: Progress | None = None,
    timeout_seconds: float | None = None,
) -> dict[str, Any]:
    """`Daemon.resolve` for what is demanded, by its digest or else by its content. Raises `HubError`s."""
    try:
        return daemon.resolve(
            handle,
            digest=demand.digest,
            refresh=refresh,
            offline=offline,
            progress=progress,
            timeout_seconds=timeout_seconds,
        )
    except DigestMismatch as error:
        if demand.content_digest is None:
            raise
        mismatch = error
    try:
        there = daemon.get(f"/v1/modules/{key(canonical(handle))}")
    except NotFound:
        raise mismatch from None
    if there.get("content_digest") != demand.content_digest:
        raise DigestMismatch(
            f"the content of {handle} is {there.get('content_digest')}, and {demand.content_digest} by the lock file"
        ) from None
    return daemon.resolve(
        handle, digest=there["digest"], offline=offline, progress=progress, timeout_seconds=timeout_seconds
    )


class _LockFile:
    """One lock file: read once, and again when it has changed."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._known: tuple[tuple[int, ...], dict[str, Locked]] | None = None

    def modules(self) -> dict[str, Locked]:
        try:
            status = os.stat(self._path)
            # Before it is read: what changes meanwhile is read once more.
            stamp: tuple[int, ...] = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        except OSError:
            stamp = ()  # reading it says what is wrong
        if self._known is None or self._known[0] != stamp:
            from hubclient.contract import lock_file

            self._known = (stamp, lock_file.read(self._path))
        return self._known[1]


def _content_digest(module: str) -> str | None:
    """What the manifest beside a module of the cache says; None where that cannot be read."""
    place = layout_of_module(module)
    if place is None:
        return None
    import json

    try:
        with open(place.layout.manifest(place.digest), "rb") as file:
            manifest = json.loads(file.read(_MAX_MANIFEST_BYTES))
    except (OSError, ValueError):
        return None
    found = manifest.get("content_digest") if isinstance(manifest, dict) else None
    return found if isinstance(found, str) else None


def _hex(digest: str) -> str:
    text = digest.removeprefix("sha256:")
    if not is_digest(text):
        raise RequestInvalid(f"a digest is 64 lower-case hex digits, the archive's sha256, and not {digest[:80]!r}")
    return text

"""From a handle to the path of a module that stays: the cache first, then the daemon.

Law: a path of the cache is given only with a lease of this process's own on it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from hubclient import finding, local, locking
from hubclient.cache import Cache, Tree
from hubclient.contract import handles
from hubclient.contract.errors import (
    CacheUnreachable,
    DaemonUnreachable,
    DigestMismatch,
    Internal,
    Offline,
)
from hubclient.contract.layout import CacheLayout, is_digest
from hubclient.contract.lease import Lease
from hubclient.locking import Demand, Demands
from hubclient.uses import Uses
from hubclient.warning import HubWarning, StaleModuleWarning, warn

if TYPE_CHECKING:
    from hubclient.daemon import Daemon
    from hubclient.exchange import Progress

_ROUNDS = 3
_MAX_SPELLINGS = 4096
# With a copy at hand that may be old, a daemon is waited for no longer than its restart takes.
_STALE_TIMEOUT_SECONDS = 2.0


class Held(NamedTuple):
    """The path of a module, and the lease on it; None for a directory of the user's own."""

    path: str
    lease: Lease | None


class _Situation(NamedTuple):
    variables: tuple[str | None, str | None]
    place: finding.Place
    cache: Cache | None


class Resolver:
    """What a process knows of modules. Thread-safe; a forked child shares its leases."""

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        find: Callable[[Mapping[str, str]], finding.Place] = finding.find,
    ) -> None:
        self._environ = environ
        self._find = find
        self._keys: dict[str, str] = {}
        self._caches: dict[tuple[str, frozenset[int]], Cache] = {}
        self._learned: dict[str, str] = {}
        self._situation: _Situation | None = None
        self._daemon: Daemon | None = None
        self.uses = Uses(environ)
        self.demands = Demands(environ)

    def resolve(
        self, handle: str | os.PathLike[str], *, digest: str | None = None, progress: Progress | None = None
    ) -> str:
        """See `hubclient.resolve`. `progress` gets the API's Fetch while the module is downloaded."""
        text = handle if isinstance(handle, str) else os.fspath(handle)
        key = self._keys.get(text)
        if key is None:
            if handles.is_path(text):
                return local.module_directory(text, digest)
            key = self._remember(text)
        demand = self.demands.of(text, key, digest)
        situation = self._situation
        if (
            situation is not None
            and situation.cache is not None
            and situation.variables == self._variables()
            and (path := situation.cache.recall(key, demand.digest)) is not None
        ):
            return path
        cache, tree = self._take(text, key, demand, progress)
        return cache.keep(tree)

    def hold(self, handle: str | os.PathLike[str], *, digest: str | None = None) -> Held:
        """The same with a lease of its own, for the caller to release."""
        text = os.fspath(handle)
        if handles.is_path(text):
            return Held(local.module_directory(text, digest), None)
        key = self._keys.get(text) or self._remember(text)
        _, tree = self._take(text, key, self.demands.of(text, key, digest), None)
        return Held(tree.path, tree.lease)

    def look(self, handle: str, digest: str | None = None) -> Held | None:
        """The module if the cache alone can answer a URL, leased for the caller to release; no daemon is asked."""
        situation = self._look_around()
        key = self._keys.get(handle) or self._remember(handle)
        demand = self.demands.of(handle, key, digest)
        tree = situation.cache.look(key) if situation.cache is not None else None
        if tree is None:
            return None
        if not (self.demands.are_met(demand, tree) and self._is_settled(demand, tree)):
            tree.lease.release()
            return None
        self.uses.report(situation.place, key)
        return Held(tree.path, tree.lease)

    def _take(self, handle: str, key: str, demand: Demand, progress: Progress | None) -> tuple[Cache, Tree]:
        situation = self._look_around()
        cache = situation.cache
        tree = cache.look(key) if cache is not None else None
        if cache is None or tree is None:
            return self._ask(situation.place, handle, demand, progress, None)
        try:
            wanted = self.demands.are_met(demand, tree)
            if wanted and self._is_settled(demand, tree):
                self.uses.report(situation.place, key)
                return cache, tree
            try:
                patience_seconds = min(_STALE_TIMEOUT_SECONDS, finding.timeout_seconds(self._environ))
                answer = self._ask(situation.place, handle, demand, progress, patience_seconds)
            except DaemonUnreachable as error:
                if not wanted:
                    raise
                warn(f"{handle} may be out of date: {error}", StaleModuleWarning)
                return cache, tree
            except Offline:
                if wanted:
                    return cache, tree
                raise DigestMismatch(f"the cached archive's sha256 is {tree.digest}, not {demand.digest}") from None
        except BaseException:
            tree.lease.release()
            raise
        tree.lease.release()
        return answer

    def _ask(
        self,
        place: finding.Place,
        handle: str,
        demand: Demand,
        progress: Progress | None,
        timeout_seconds: float | None,
    ) -> tuple[Cache, Tree]:
        """Ask the daemon, and take a lease on what it answers while its own lasts."""
        trouble: OSError | None = None
        path = ""
        for _ in range(_ROUNDS):
            answer, answering = self._answer(place, handle, demand, progress, timeout_seconds)
            root, tree_digest, path = _parts(answer)
            cache = self._cache(root, finding.trusted_uids(self._environ, answering))
            try:
                tree = cache.take(tree_digest)
            except OSError as error:
                trouble = error
                continue
            try:
                if answering.cache is None:
                    self._learned[answering.socket] = root
                    self._look_around()
                _warn_of(answer, handle)
            except BaseException:  # a warning may be an error
                tree.lease.release()
                raise
            return cache, tree
        raise CacheUnreachable(
            f"the daemon answered {path}, which this process cannot use ({trouble}): if it runs in a container, or "
            f"sees other mounts than the daemon, mount the cache at the same path; if hubd is newer, upgrade hubclient"
        ) from trouble

    def _answer(
        self,
        place: finding.Place,
        handle: str,
        demand: Demand,
        progress: Progress | None,
        timeout_seconds: float | None,
    ) -> tuple[dict[str, Any], finding.Place]:
        from hubclient.daemon import Daemon

        if self._is_offline():
            # A running daemon knows more than its views tell, so it is asked; none is waited for or started.
            with Daemon(place, environ={**self._environ, "HUBD_AUTOSTART": "0"}, timeout_seconds=0) as running:
                try:
                    answer = locking.resolve(running, handle, demand, offline=True, progress=progress)
                    return answer, running.place
                except DaemonUnreachable:
                    raise Offline(f"{handle} is not in the cache, and HUBD_OFFLINE is set") from None
        daemon = self._daemon
        if daemon is None or daemon.place != place:
            self._daemon = daemon = Daemon(place, environ=self._environ)
        answer = locking.resolve(daemon, handle, demand, progress=progress, timeout_seconds=timeout_seconds)
        return answer, daemon.place

    def _remember(self, spelling: str) -> str:
        key = handles.key(handles.canonical(spelling))
        if len(self._keys) >= _MAX_SPELLINGS:
            self._keys.clear()
        self._keys[spelling] = key
        return key

    def _variables(self) -> tuple[str | None, str | None]:
        """What programs change while they run. Of the other variables the values at the first use count."""
        return self._environ.get("HUBD_SOCKET"), self._environ.get("TFHUB_CACHE_DIR")

    def _is_settled(self, demand: Demand, tree: Tree) -> bool:
        """Whether a tree that is wanted needs no daemon's word: of a digest that is demanded nothing is newer."""
        return tree.fresh or demand.digest is not None or self._is_offline()

    def _is_offline(self) -> bool:
        return self._environ.get("HUBD_OFFLINE", "0") not in ("", "0")

    def _look_around(self) -> _Situation:
        """Find the daemon's place anew: a service may have come, gone or moved since the last miss."""
        variables = self._variables()
        place = self._find(self._environ)
        root = place.cache or self._learned.get(place.socket)
        cache = self._cache(root, finding.trusted_uids(self._environ, place)) if root is not None else None
        self._situation = situation = _Situation(variables, place, cache)
        return situation

    def _cache(self, root: str, uids: frozenset[int]) -> Cache:
        return self._caches.get((root, uids)) or self._caches.setdefault((root, uids), Cache(root, uids))


def _warn_of(answer: Mapping[str, Any], handle: str) -> None:
    texts = tuple(map(str, answer.get("warnings") or ()))
    if answer.get("outcome") == "stale":
        warn("; ".join((f"{handle} may be out of date", *texts)), StaleModuleWarning)
    else:
        for text in texts:
            warn(f"{handle}: {text}", HubWarning)


def _parts(answer: Mapping[str, Any]) -> tuple[str, str, str]:
    """Root, digest and path of the answered module, which must be where this layout has modules."""
    path = str(answer.get("path", ""))
    tree = os.path.dirname(path)
    root, digest = os.path.dirname(os.path.dirname(tree)), os.path.basename(tree)
    if not (os.path.isabs(path) and is_digest(digest) and CacheLayout(root).module(digest) == path):
        raise Internal(f"the daemon's answer names a path that this hubclient does not understand: {path[:200]!r}")
    return root, digest, path

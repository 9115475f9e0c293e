"""What `hubclient` exports for getting modules: one `Resolver`, this process's own.

Law: a lease that `resolve` keeps belongs to the process, and the kernel lets go of it when the process ends.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from hubclient.cache import Tree
from hubclient.contract.handles import canonical, key
from hubclient.locking import Demand
from hubclient.resolver import Held, Resolver
from hubclient.warning import HubWarning, StaleModuleWarning

__all__ = [
    "Held",
    "HubWarning",
    "Resolver",
    "StaleModuleWarning",
    "demand_of",
    "flush_uses",
    "hold",
    "is_demanded",
    "lease",
    "look",
    "resolve",
]

_own = Resolver(os.environ)


def resolve(handle: str | os.PathLike[str], *, digest: str | None = None) -> str:
    """The path of the module's directory, downloaded first if need be.

    The path works for as long as this process and its forks live: they hold a lease on it. A path or ``file://`` URL
    of a module directory is answered as its absolute path. `digest` is the sha256 that the module's archive must have.

    Raises `HubError`s, which tell by `code` what went wrong; warns of a module that may be old.
    """
    return _own.resolve(handle, digest=digest)


@contextmanager
def lease(handle: str | os.PathLike[str], *, digest: str | None = None) -> Iterator[str]:
    """``with lease(handle) as path``: as `resolve`, but the path is sure to work in the block alone."""
    path, held = _own.hold(handle, digest=digest)
    try:
        yield path
    finally:
        if held is not None:
            held.release()


def hold(handle: str | os.PathLike[str], *, digest: str | None = None) -> Held:
    """As `lease`, for an end that no block can name: whoever calls releases it."""
    return _own.hold(handle, digest=digest)


def look(handle: str, *, digest: str | None = None) -> Held | None:
    """The module behind a URL if the cache alone can answer, leased for the caller to release; None otherwise."""
    return _own.look(handle, digest)


def demand_of(handle: str, digest: str | None) -> Demand:
    """What is demanded of a URL's module, by who names a digest or by the lock file that ``HUBD_LOCK`` names."""
    return _own.demands.of(handle, key(canonical(handle)), digest)


def is_demanded(demand: Demand, tree: Tree) -> bool:
    """Whether a leased tree of the cache is what is demanded."""
    return _own.demands.are_met(demand, tree)


def flush_uses() -> None:
    """Tell the daemon what was used. It happens by itself, but not where ``exec`` ends the program."""
    _own.uses.flush()

"""The cache: whether it can be trusted and seen from here, locks and clocks included."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from hubclient import finding
from hubclient.cli.checks import Finding, fail, ok, warn
from hubclient.cli.wording import duration, size
from hubclient.contract import mounts
from hubclient.contract.errors import CacheUntrusted
from hubclient.contract.layout import LAYOUT_VERSION, CacheLayout
from hubclient.contract.lease import Lease
from hubclient.finding import Place

SCARCE_BYTES = 2 * 10**9
SKEW_SECONDS = 60.0
_MOST_RECORDS = 1000
_MAX_VERSION_BYTES = 16


def check(environ: Mapping[str, str], place: Place, status: dict[str, Any] | None) -> Iterator[Finding]:
    """What there is to say of the cache of `place`; `status` is the running daemon's, if there is one."""
    root = status["cache"]["dir"] if status is not None else place.cache
    if root is None:
        return  # only its daemon knows, and that does not answer
    if not os.path.isdir(root):
        if status is not None:
            what = f"the daemon's cache is {root}, which is not to be seen from here"
            yield fail("cache", what, "mount it, read-only will do, at the same path")
        elif place.kind == "user":
            yield ok("cache", f"{root} will be made when it is needed")
        else:
            yield fail("cache", f"{root} is not to be seen from here", "mount it, read-only will do, at the same path")
        return
    yield from _trust(root, environ, place)
    if not os.access(root, os.X_OK):
        return  # which was told, and hides the rest
    yield from _layout(root)
    yield from _disk(root)
    if status is not None:
        yield from _locks(root)
    yield from check_clock(root)


def check_clock(root: str, now: float | None = None) -> Iterator[Finding]:
    """Whether something in the cache is from the future; `now` in Unix seconds."""
    layout, now = CacheLayout(root), time.time() if now is None else now
    newest = max(_written(layout), default=0.0)
    if newest > now + SKEW_SECONDS:
        what = f"something in the cache is from {duration(newest - now)} later: this clock is wrong, or was"
        yield warn("clock", what, "`timedatectl` tells whether the clock is set by the network")
    else:
        yield ok(
            "clock", f"it is {time.strftime('%Y-%m-%d %H:%M:%S %Z', time.localtime(now))}, and nothing is from later"
        )


def _trust(root: str, environ: Mapping[str, str], place: Place) -> Iterator[Finding]:
    try:
        finding.require_trust(os.path.realpath(root), finding.trusted_uids(environ, place))
    except CacheUntrusted as error:
        yield fail("cache", error.detail)
    except FileNotFoundError:
        yield ok("cache", f"{root} is no cache yet: the daemon makes it one")
    except PermissionError:
        yield warn("cache", f"{root} is closed to you: each module is asked for, and the daemon may refuse it")
    else:
        yield ok("cache", f"{root}: nobody could have put anything there whom you need not trust")


def _layout(root: str) -> Iterator[Finding]:
    try:
        with open(CacheLayout(root).version_file, "rb") as file:
            version = int(file.read(_MAX_VERSION_BYTES))
    except (OSError, ValueError):
        return
    if version > LAYOUT_VERSION:
        yield warn(
            "layout", f"it is {version}, and this hubclient knows {LAYOUT_VERSION}", "`pip install -U hubclient`"
        )


def _disk(root: str) -> Iterator[Finding]:
    kind = mounts.file_system(root)
    if mounts.is_network(kind):
        what = f"{root} is on a network file system ({kind}), where locks and renames are not to be relied on"
        yield fail("file system", what, "put the cache on a local disk: [cache] dir, or TFHUB_CACHE_DIR")
    else:
        yield ok("file system", f"{kind or 'of unknown type'}, local")
    disk = os.statvfs(root)
    free_bytes = disk.f_bavail * disk.f_frsize
    if disk.f_files and not disk.f_favail:
        yield fail("disk", "it has no inode left: no file can be made", "remove files, or `hubctl prune`")
    elif free_bytes < SCARCE_BYTES:
        what = f"{size(free_bytes)} are free, which few modules fit into"
        yield warn("disk", what, "`hubctl prune --older-than 30d`, or a larger disk")
    else:
        yield ok("disk", f"{size(free_bytes)} are free")


def _locks(root: str) -> Iterator[Finding]:
    """The running daemon holds its lock: who does not see that would hold modules that the daemon removes."""
    try:
        held = Lease.is_held(CacheLayout(root).daemon_lock)
    except OSError as error:
        yield warn("leases", f"the daemon's lock cannot be looked at: {error.strerror}")
        return
    if held:
        yield ok("leases", "locks work between the daemon and you")
    else:
        what = "the daemon's locks are not seen from here, nor yours by it: it may remove what you use"
        yield fail(
            "leases", what, "share the cache by a bind mount of a local disk, on the kernel that the daemon runs on"
        )


def _written(layout: CacheLayout) -> Iterator[float]:
    """When what can be seen was written. Links are left out: their times say until when they hold."""
    for path in (layout.root, layout.trees, layout.daemon_lock):
        try:
            yield os.stat(path).st_mtime
        except OSError:
            continue
    try:
        with os.scandir(layout.handles) as entries:  # the daemon's user and root may
            for entry in islice(entries, _MOST_RECORDS):
                if not entry.is_symlink():
                    yield entry.stat(follow_symlinks=False).st_mtime
    except OSError:
        return

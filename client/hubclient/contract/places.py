"""Where caches, sockets and logs lie, for the daemon and for whoever looks for it."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Container, Mapping

from hubclient.contract.errors import RequestInvalid
from hubclient.contract.layout import CacheLayout

SERVICE_DIR = "/run/hubd"
SERVICE_SOCKET = SERVICE_DIR + "/hubd.sock"
SERVICE_CACHE = "/var/cache/hubd"

MAX_SOCKET_PATH_BYTES = 107  # sun_path is 108 bytes with its NUL (unix(7))


def explicit_cache(environ: Mapping[str, str]) -> str | None:
    """The cache that ``TFHUB_CACHE_DIR`` names, absolute; None when it is unset or empty.

    The ``tfhub/`` directory of a cache (what an unmodified tensorflow_hub is pointed at) means that cache.
    """
    named = environ.get("TFHUB_CACHE_DIR")
    if not named:
        return None
    directory = os.path.abspath(os.path.expanduser(named))
    parent = os.path.dirname(directory)
    if os.path.basename(directory) == "tfhub" and os.path.isfile(CacheLayout(parent).version_file):
        return parent
    return directory


def user_cache(environ: Mapping[str, str]) -> str:
    """The cache of a per-user daemon when nothing else is said: ``$XDG_CACHE_HOME/hubd``."""
    return _xdg(environ, "XDG_CACHE_HOME", "~/.cache") + "/hubd"


def user_log(environ: Mapping[str, str]) -> str:
    """Where a per-user daemon that a client started writes its log."""
    return _xdg(environ, "XDG_STATE_HOME", "~/.local/state") + "/hubd/hubd.log"


def user_socket(cache: str, environ: Mapping[str, str]) -> str:
    """The socket of the per-user daemon of a cache: below ``$XDG_RUNTIME_DIR`` if that is ours, else in the cache."""
    name = hashlib.sha256(os.path.realpath(cache).encode()).hexdigest()[:16] + ".sock"
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime) and is_private(runtime):
        return f"{runtime}/hubd/{name}"
    return f"{cache}/run/{name}"


def cache_link(socket: str) -> str:
    """The symlink beside a socket that names the daemon's cache."""
    return socket + ".cache"


def is_private(directory: str, uids: Container[int] | None = None) -> bool:
    """Whether it is a real directory of this user's (or of one of `uids`) that nobody else may enter."""
    try:
        status = os.lstat(directory)
    except OSError:
        return False
    owners = (os.geteuid(),) if uids is None else uids
    return stat.S_ISDIR(status.st_mode) and status.st_uid in owners and not status.st_mode & 0o077


def fault_of_ancestors(path: str, uids: Container[int]) -> str | None:
    """Who else could put another directory in the place of this one, as the beginning of a sentence; None: nobody.

    Each directory above must belong to one of `uids`, and others may write to it only under the sticky bit, which
    keeps them from what is not theirs; so may a group, but for root's and an owner's own (of the same number).
    """
    while (parent := os.path.dirname(path)) != path:
        path = parent
        try:
            status = os.lstat(path)
        except OSError:
            continue  # not there yet: whoever makes it is bound by what is above
        if status.st_uid not in uids:
            return f"{path} belongs to uid {status.st_uid}"
        if status.st_mode & stat.S_ISVTX:
            continue
        if status.st_mode & 0o002 or (status.st_mode & 0o020 and status.st_gid not in (0, status.st_uid)):
            return f"others can write to {path} (mode {stat.S_IMODE(status.st_mode):04o})"
    return None


def boot_id() -> str:
    """This boot's identity: with it a pid names one process for good."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def _xdg(environ: Mapping[str, str], variable: str, default: str) -> str:
    named = environ.get(variable, "")
    path = named if os.path.isabs(named) else os.path.expanduser(default)
    if not os.path.isabs(path):
        raise RequestInvalid(
            f"HOME is not set, and uid {os.geteuid()} has no home directory: set TFHUB_CACHE_DIR and XDG_STATE_HOME"
        )
    return path

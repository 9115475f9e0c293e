"""Where the daemon and its cache are, and whom to believe about them.

Law: nothing is believed for what a file says, only for who alone could have written it. Whoever plants a cache
cannot vouch for himself.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from typing import Literal, NamedTuple

from hubclient.contract import places
from hubclient.contract.errors import CacheUntrusted, RequestInvalid
from hubclient.contract.layout import CacheLayout

ROOT_UID = 0
DEFAULT_TIMEOUT_SECONDS = 30.0

_MAX_LOCK_BYTES = 4096
_MAX_UID_DIGITS = 10


class Place(NamedTuple):
    """One daemon: its socket, its cache (None: only it knows), and how we came to mean it."""

    socket: str
    cache: str | None
    kind: Literal["explicit", "service", "user"]


class NamedSocket(NamedTuple):
    """The socket that a ``daemon.lock`` names, and who wrote that."""

    path: str
    uid: int


def find(
    environ: Mapping[str, str],
    *,
    service_socket: str = places.SERVICE_SOCKET,
    service_cache: str = places.SERVICE_CACHE,
) -> Place:
    """The daemon that this environment means; nobody is asked whether it runs.

    ``HUBD_SOCKET``; else, where the service's directory exists and no explicit ``TFHUB_CACHE_DIR`` names another
    cache, the service; else the per-user daemon.
    """
    if named := environ.get("HUBD_SOCKET"):
        socket = os.path.abspath(os.path.expanduser(named))
        return Place(socket, _linked_cache(socket), "explicit")
    if os.path.isdir(os.path.dirname(service_socket)):
        cache = _linked_cache(service_socket) or service_cache
        explicit = places.explicit_cache(environ)
        if (explicit is None or os.path.realpath(explicit) == os.path.realpath(cache)) and not (
            environ.get("HUBD_AUTOSTART") == "1" and not _is_answered(service_socket)
        ):
            return Place(service_socket, cache, "service")
    return user_place(environ)


def user_place(environ: Mapping[str, str]) -> Place:
    """The per-user daemon of the cache that the environment names."""
    cache = places.explicit_cache(environ) or places.user_cache(environ)
    return Place(places.user_socket(cache, environ), cache, "user")


def renewed(place: Place, environ: Mapping[str, str]) -> Place:
    """A per-user daemon's place with the socket where it would listen if it was started now."""
    assert place.cache is not None
    return place._replace(socket=places.user_socket(place.cache, environ))


def trusted_uids(environ: Mapping[str, str], place: Place) -> frozenset[int]:
    """Whose caches are used: root's, one's own, ``HUBD_TRUST_UID``'s, and those of whoever owns the directory of a
    socket that the user or the system named. Raises `RequestInvalid` for a ``HUBD_TRUST_UID`` that is no number."""
    uids = _own_uids(environ)
    if place.kind != "user":
        with suppress(OSError):  # no directory, nobody who vouches
            uids.add(os.stat(os.path.dirname(place.socket)).st_uid)
    return frozenset(uids)


def require_trust(root: str, uids: frozenset[int]) -> None:
    """Raises `CacheUntrusted` if someone else could have planted what lies in the cache, and `OSError` if its
    directories cannot be seen."""
    layout = CacheLayout(root)
    _require_safe_way(root, uids)
    for directory in (root, layout.handles, layout.trees):
        _require_safe(directory, os.lstat(directory), uids)


def require_trusted_root(root: str, uids: frozenset[int]) -> None:
    """The same for the root alone, which may be missing: before a daemon is started on it."""
    _require_safe_way(os.path.realpath(root), uids)
    try:
        status = os.stat(root)
    except OSError:
        return  # the daemon will say what is the matter with it
    _require_safe(root, status, uids)


def named_socket(cache: str, environ: Mapping[str, str]) -> NamedSocket | None:
    """The socket that the cache's ``daemon.lock`` names, if that can be believed and was written in this boot.

    It is believed if it and the cache's root belong to root, oneself or ``HUBD_TRUST_UID``, and no one else can
    write to them. Whoever connects must still compare the daemon's peer credentials with `NamedSocket.uid`.
    """
    uids = _own_uids(environ)
    try:
        root = os.stat(cache)
        fd = os.open(CacheLayout(cache).daemon_lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            status = os.fstat(fd)
            safe = stat.S_ISREG(status.st_mode) and _is_safe(status, uids) and _is_safe(root, uids)
            text = os.read(fd, _MAX_LOCK_BYTES) if safe else b""
        finally:
            os.close(fd)
    except OSError:
        return None
    import json

    try:
        said = json.loads(text)
        path, boot_id = said["socket"], said["boot_id"]
        is_usable = os.path.isabs(path) and len(os.fsencode(path)) <= places.MAX_SOCKET_PATH_BYTES
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if not is_usable or boot_id != places.boot_id():
        return None
    return NamedSocket(path, status.st_uid)


def timeout_seconds(environ: Mapping[str, str]) -> float:
    """``HUBD_TIMEOUT``: for how long an absent daemon is waited for. Raises `RequestInvalid` if it is no number."""
    named = environ.get("HUBD_TIMEOUT")
    if not named:
        return DEFAULT_TIMEOUT_SECONDS
    try:
        seconds = float(named.strip().removesuffix("s"))
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise RequestInvalid(f"HUBD_TIMEOUT is {named!r}: it must be a number of seconds, such as 30")
    return seconds


def _is_answered(path: str) -> bool:
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def _linked_cache(socket: str) -> str | None:
    try:
        target = os.readlink(places.cache_link(socket))
    except OSError:
        return None
    return os.path.join(os.path.dirname(socket), target)


def _own_uids(environ: Mapping[str, str]) -> set[int]:
    uids = {ROOT_UID, os.geteuid()}
    if named := environ.get("HUBD_TRUST_UID"):
        if not (named.isascii() and named.isdigit() and len(named) <= _MAX_UID_DIGITS):
            raise RequestInvalid(f"HUBD_TRUST_UID is {named!r}: it must be the number of a user, such as 1000")
        uids.add(int(named))
    return uids


def _is_safe(status: os.stat_result, uids: set[int] | frozenset[int]) -> bool:
    return status.st_uid in uids and not status.st_mode & 0o022


def _require_safe_way(root: str, uids: frozenset[int]) -> None:
    if (fault := places.fault_of_ancestors(root, uids)) is not None:
        raise CacheUntrusted(f"{fault}, and whoever can could put another cache in its place: choose another directory")


def _require_safe(directory: str, status: os.stat_result, uids: frozenset[int]) -> None:
    if not stat.S_ISDIR(status.st_mode):
        raise CacheUntrusted(f"{directory} is no directory, so this is no cache of hubd's")
    if status.st_uid not in uids:
        raise CacheUntrusted(
            f"{directory} belongs to uid {status.st_uid}, who could have put anything there; "
            f"if you trust that user set HUBD_TRUST_UID={status.st_uid}, else choose another TFHUB_CACHE_DIR"
        )
    if status.st_mode & 0o022:
        raise CacheUntrusted(
            f"others can write to {directory} (mode {stat.S_IMODE(status.st_mode):04o}) and could have put anything "
            f"there: chmod go-w {directory}, or choose another TFHUB_CACHE_DIR"
        )

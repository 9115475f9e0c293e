"""The Unix socket that the daemon listens on: made safely or taken over, and recognised as one's own.

Law: a socket file is replaced only when nobody answers behind it, and removed only while it is still ours; one that was
passed on belongs to whoever made it, and outlives the daemon.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from contextlib import suppress

from hubclient.contract import places
from hubd.api import namespace
from hubd.api.access import caller_of
from hubd.config import Place


class SocketUnusable(Exception):
    """The socket cannot be had; the text says why and what to do."""


class ListeningSocket:
    """A bound Unix socket, and beside it a link to the cache that it gives access to."""

    def __init__(self, listening: socket.socket, path: str, cache: str, *, is_passed: bool) -> None:
        """Takes over `listening`, unless it raises `OSError`."""
        status = os.lstat(path)
        self._inode = (status.st_dev, status.st_ino)
        self._is_passed = is_passed
        self.path = path
        self.socket = listening
        self.warning = _link(places.cache_link(path), cache)

    @classmethod
    def at(cls, place: Place, cache: str, passed: socket.socket | None = None) -> ListeningSocket:
        """The socket of a daemon's place: the one that was passed on, which lies there, else a new one.

        A user's own is closed to others. Raises `SocketUnusable`.
        """
        path = place.socket
        if len(os.fsencode(path)) > places.MAX_SOCKET_PATH_BYTES:
            raise SocketUnusable(
                f"the socket path {path} is longer than {places.MAX_SOCKET_PATH_BYTES} bytes: choose a shorter --socket"
            )
        try:
            _make_directory(os.path.dirname(path), private=place.user)
            listening = passed or _bind_alone(path, 0o600 if place.user else 0o666)
            made = cls(listening, path, cache, is_passed=passed is not None)
        except OSError as error:
            remedy = "" if passed is None else "; systemctl restart hubd.socket makes it anew"
            raise SocketUnusable(f"cannot listen on {path}: {error.strerror or error}{remedy}") from error
        made.warning = made.warning or (None if place.user else namespace.warning())
        return made

    def is_ours(self) -> bool:
        """Whether the path still leads here: a logout, say, removes the directory with it."""
        try:
            status = os.lstat(self.path)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._inode

    def close(self) -> None:
        self.socket.close()
        if not self._is_passed and self.is_ours():
            # The link stays: while no daemon runs, it tells clients where the cached modules are.
            with suppress(OSError):
                os.unlink(self.path)


def path_of(passed: socket.socket) -> str:
    """Where a socket that was passed on listens. Raises `SocketUnusable` when it is none that hubd can serve."""
    if passed.family != socket.AF_UNIX or passed.type != socket.SOCK_STREAM:
        raise SocketUnusable("the socket that was passed on is no Unix stream socket: see ListenStream= in hubd.socket")
    if not passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise SocketUnusable("the socket that was passed on does not listen: hubd.socket must have Accept=no")
    path = passed.getsockname()
    if not isinstance(path, str) or not os.path.isabs(path):  # bytes: an abstract address
        raise SocketUnusable("the socket that was passed on has no path: see ListenStream= in hubd.socket")
    passed.setblocking(False)
    return path


def _make_directory(directory: str, *, private: bool) -> None:
    with suppress(FileExistsError):
        os.makedirs(directory, mode=0o700 if private else 0o755)
    if private and not places.is_private(directory):
        raise SocketUnusable(f"{directory} must be a directory of this user's with mode 0700")
    # Who can write there could put a socket of his own in this one's place, and answer everybody.
    uids = (0, os.geteuid())
    fault = None if private else places.fault_of_ancestors(f"{directory}/x", uids)
    if fault is None and (mode := os.stat(directory).st_mode) & 0o022:
        fault = f"others can write to {directory} (mode {stat.S_IMODE(mode):04o})"
    if fault is not None:
        raise SocketUnusable(f"{fault}, and could put another socket there: chmod go-w it, or choose another place")


def _bind_alone(path: str, mode: int) -> socket.socket:
    """Of two daemons that start at once, none takes the other's new socket for a stale one."""
    lock = os.open(path + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _bind(path, mode)
    finally:
        os.close(lock)


def _bind(path: str, mode: int) -> socket.socket:
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise SocketUnusable(f"{path} is there and no socket: remove it or choose another --socket")
        if (pid := _listener(path)) is not None:
            # The kernel has no number for a process of another container.
            who = f"pid {pid}" if pid else "in another container"
            raise SocketUnusable(f"another daemon ({who}) listens on {path}")
        os.unlink(path)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        # With the mode from the first moment on: nobody else gets in between bind and chmod.
        umask = os.umask(0o777 & ~mode)
        try:
            bound.bind(path)
        finally:
            os.umask(umask)
        bound.setblocking(False)
    except BaseException:
        bound.close()
        raise
    return bound


def _listener(path: str) -> int | None:
    """The pid of whoever listens on the socket; None when nobody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2.0)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return None
        return caller_of(probe).pid


def _link(path: str, cache: str) -> str | None:
    """Makes the link to the cache; a failure is a warning, for clients can ask instead."""
    try:
        if os.path.islink(path):
            if os.readlink(path) == cache:
                return None
            os.unlink(path)
        os.symlink(cache, path)
    except OSError as error:
        return f"cannot make {path}: {error.strerror}; clients will ask for every hit"
    return None

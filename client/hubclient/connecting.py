"""Connections to a daemon's Unix socket, and the check of who answers there.

Law: a socket that neither the user nor the system named is used only if the right user's process answers on it.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
from collections.abc import Mapping

from hubclient import finding
from hubclient.contract import places
from hubclient.contract.errors import AccessDenied, DaemonUnreachable
from hubclient.finding import Place

#: Nobody listens, or too many wait to be let in. Either may be over in a moment.
AWAY = (FileNotFoundError, ConnectionError, BlockingIOError)

_UCRED = struct.Struct("3i")  # pid, uid, gid: unix(7)


def connect(path: str) -> socket.socket:
    """A connection. Raises one of `AWAY` when no daemon answers now, `DaemonUnreachable` when none ever will."""
    if len(os.fsencode(path)) > places.MAX_SOCKET_PATH_BYTES:
        raise DaemonUnreachable(f"the path of the socket is over {places.MAX_SOCKET_PATH_BYTES} bytes long: {path}")
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)  # a full queue is told at once, and tried again
        connection.connect(path)
    except BaseException as error:
        connection.close()
        if isinstance(error, OSError) and not isinstance(error, AWAY):
            raise DaemonUnreachable(f"cannot connect to {path} as uid {os.geteuid()}: {error.strerror}") from error
        raise
    return connection


def connect_to_users(place: Place, environ: Mapping[str, str]) -> socket.socket | None:
    """A connection to the per-user daemon of `place`, wherever it listens; None when there is none.

    Its usual socket comes first, then the one that the cache's ``daemon.lock`` names: a daemon that was started from
    another environment (ssh, cron) can listen elsewhere. Raises `CacheUntrusted` for a cache that someone else could
    have planted, `BlockingIOError` when too many wait to be let in, and `DaemonUnreachable`.
    """
    assert place.cache is not None
    uids = finding.trusted_uids(environ, place)
    finding.require_trusted_root(place.cache, uids)
    if len(os.fsencode(place.socket)) <= places.MAX_SOCKET_PATH_BYTES:
        directory = os.path.dirname(place.socket)
        if os.path.lexists(directory) and not places.is_private(directory, uids):
            raise DaemonUnreachable(
                f"{directory} is where the daemon's socket belongs, and must be a directory of yours alone: "
                f"chmod 0700 {directory}, or remove it"
            )
        if (connected := _connect_to(place.socket, uids)) is not None:
            return connected
    named = finding.named_socket(place.cache, environ)
    if named is None or named.path == place.socket:
        return None
    return _connect_to(named.path, frozenset((named.uid,)))


def require_confidant(connection: socket.socket, place: Place) -> None:
    """Raises `AccessDenied` if someone else than root and oneself could have put there who answers.

    So the daemon's process is one's own or root's; or its socket is the service's, whose directory only root can
    make; or it lies in a directory that is root's or one's own, to which no one else can write, nor swap it.
    """
    uids = (finding.ROOT_UID, os.geteuid())
    if (uid := _peer(connection)) in uids or place.socket == places.SERVICE_SOCKET:
        return
    directory = os.path.dirname(place.socket)
    fault = None if place.kind != "user" else f"uid {uid} answers there"
    fault = fault or places.fault_of_ancestors(place.socket, uids)
    if fault is None and (mode := os.lstat(directory).st_mode) & 0o022:
        fault = f"others can write to {directory} (mode {stat.S_IMODE(mode):04o})"
    if fault is not None:
        raise AccessDenied(f"credentials are not sent over {place.socket}: {fault}")


def _connect_to(path: str, uids: frozenset[int]) -> socket.socket | None:
    try:
        connection = connect(path)
    except (FileNotFoundError, ConnectionError):
        return None
    if _peer(connection) in uids:
        return connection
    connection.close()
    return None


def _peer(connection: socket.socket) -> int:
    _, uid, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return int(uid)

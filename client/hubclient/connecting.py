"""Connections to a daemon's Unix socket, and the check of who answers there.

Law: a socket that neither the user nor the system named is used only if the right user's process answers on it.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Mapping

from hubclient import finding
from hubclient.contract import places
from hubclient.contract.errors import DaemonUnreachable
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


def _connect_to(path: str, uids: frozenset[int]) -> socket.socket | None:
    try:
        connection = connect(path)
    except (FileNotFoundError, ConnectionError):
        return None
    _, uid, _ = _UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    if uid in uids:
        return connection
    connection.close()
    return None

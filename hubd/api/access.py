"""Who asks, and what they may: from the kernel's word on the socket's other end, never from text."""

from __future__ import annotations

import enum
import errno
import socket
import struct
from dataclasses import dataclass

_SO_PEERGROUPS = 59  # asm-generic/socket.h; the socket module has no name for it
_UCRED = struct.Struct("iII")  # pid_t, uid_t, gid_t: unix(7)
_MOST_GROUPS = 65536  # NGROUPS_MAX


class Level(enum.IntEnum):
    """What a route demands of its caller."""

    USER = 1
    ADMIN = 2


@dataclass(frozen=True)
class Caller:
    """The process at the other end, as it was when it connected."""

    pid: int
    uid: int
    groups: frozenset[int]

    def level(self, owner_uid: int) -> Level:
        """Root and the daemon's own user are administrators."""
        return Level.ADMIN if self.uid in (0, owner_uid) else Level.USER


def caller_of(peer: socket.socket) -> Caller:
    """The credentials of a connected Unix socket's peer (SO_PEERCRED, SO_PEERGROUPS)."""
    pid, uid, gid = _UCRED.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return Caller(pid, uid, frozenset((gid, *_groups(peer))))


def _groups(peer: socket.socket) -> tuple[int, ...]:
    size = 64
    while True:
        try:
            packed = peer.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, size * 4)
        except OSError as error:
            if error.errno != errno.ERANGE or size >= _MOST_GROUPS:
                return ()  # fewer groups than it has: never more rights
            size *= 8
            continue
        return struct.unpack(f"{len(packed) // 4}I", packed)

"""Who asks, and what they may: from the kernel's word on the socket's other end, never from text.

Law: each request is judged by the policy that holds at that moment, also on a connection that an earlier one let in.
Users and groups are those of the process when it connected.
"""

from __future__ import annotations

import enum
import errno
import logging
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from hubclient.contract.errors import AccessDenied
from hubd.config import AccessSettings

log = logging.getLogger(__name__)

_SO_PEERGROUPS = 59  # asm-generic/socket.h; the socket module has no name for it
_UCRED = struct.Struct("iII")  # pid_t, uid_t, gid_t: unix(7)
_MOST_GROUPS = 65536  # NGROUPS_MAX
_MOST_TOLD = 1024


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


@dataclass(frozen=True)
class Policy:
    """Who may do what. `is_private`: of a user's own daemon, which is for that user (and root) alone."""

    access: AccessSettings
    owner_uid: int
    is_private: bool

    def level(self, caller: Caller) -> Level | None:
        """What the caller may; None: nothing. Root and the daemon's own user are administrators."""
        if caller.uid in (0, self.owner_uid):
            return Level.ADMIN
        if self.is_private:
            return None
        access = self.access
        if caller.uid in access.admin_users or not caller.groups.isdisjoint(access.admin_groups):
            return Level.ADMIN
        if not access.is_restricted or caller.uid in access.users or not caller.groups.isdisjoint(access.groups):
            return Level.USER
        return None


class Gate:
    """Lets callers in, by the policy that holds now. Who is kept out altogether is logged, once for each policy."""

    def __init__(self, policy: Callable[[], Policy]) -> None:
        self._policy = policy
        self._told: tuple[AccessSettings | None, set[int]] = None, set()

    def admit(self, caller: Caller, needed: Level) -> Level:
        """The caller's level. Raises `AccessDenied` when it is less than what is needed."""
        policy = self._policy()
        level = policy.level(caller)
        if level is None:
            self._tell(caller, policy.access)
            raise AccessDenied(
                f"uid {caller.uid} may not use this hubd, which is for some users and groups alone: ask an "
                "administrator to name you or a group of yours under [access] (a group that is new to you counts from "
                "your next login on)"
            )
        if level < needed:
            raise AccessDenied("this is for administrators: root, and whom access.admin_users and admin_groups name")
        return level

    def _tell(self, caller: Caller, access: AccessSettings) -> None:
        if self._told[0] is not access:
            self._told = access, set()
        told = self._told[1]
        if caller.uid not in told and len(told) < _MOST_TOLD:
            told.add(caller.uid)
            log.warning("uid %d (pid %d) was refused: [access] names neither it nor its groups", caller.uid, caller.pid)


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

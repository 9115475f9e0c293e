"""Who may enter a directory, as the POSIX ACL that Linux keeps in the attribute ``system.posix_acl_access``.

Law: the bytes say it in full (linux/posix_acl_xattr.h; acl(5)), so that setting them is one step from the old state to
the new one, and the mode follows: the kernel writes an ACL that a mode can say as that mode alone.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Collection
from typing import NamedTuple

ATTRIBUTE = "system.posix_acl_access"

_HEADER = struct.Struct("<I")
_ENTRY = struct.Struct("<HHI")  # tag, permissions, uid or gid
_VERSION = 2
_OWNER, _USER, _GROUP, _NAMED_GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_ENTER, _ALL = 0o5, 0o7
_NOBODY = 0xFFFFFFFF  # stands where an entry names no one


class Entrants(NamedTuple):
    """Whom an ACL names beside the owner."""

    users: frozenset[int]
    groups: frozenset[int]
    others_too: bool  # as after a chmod by somebody else


def encode(readers: Collection[int] | None, groups: Collection[int] = ()) -> bytes:
    """The owner may do all, these users and groups read and enter, and nobody else anything; None: everyone may read
    and enter."""
    return _encode(readers or (), groups, _ENTER if readers is None else 0, _ENTER if readers is None else 0)


def _encode(users: Collection[int], groups: Collection[int], owning_group: int, others: int) -> bytes:
    named_users = [(_USER, _ENTER, uid) for uid in sorted(set(users))]
    named_groups = [(_NAMED_GROUP, _ENTER, gid) for gid in sorted(set(groups))]
    mask = [(_MASK, _ENTER, _NOBODY)] if named_users or named_groups else []
    entries = [(_OWNER, _ALL, _NOBODY), *named_users, (_GROUP, owning_group, _NOBODY), *named_groups, *mask]
    entries.append((_OTHER, others, _NOBODY))
    return _HEADER.pack(_VERSION) + b"".join(_ENTRY.pack(*entry) for entry in entries)


def entrants_of(path: str) -> Entrants | None:
    """Whom the directory's ACL names, if it says what `encode` would, its word on others left aside; else None.

    Raises `OSError`.
    """
    if (data := _acl_of(path)) is None:
        return None
    named = [(tag, number) for tag, _, number in _ENTRY.iter_unpack(data[_HEADER.size :])]
    users = frozenset(number for tag, number in named if tag == _USER)
    groups = frozenset(number for tag, number in named if tag == _NAMED_GROUP)
    for others in (0, _ENTER):
        if data == _encode(users, groups, 0, others):
            return Entrants(users, groups, others_too=others != 0)
    return None


def readers_of(path: str) -> frozenset[int] | None:
    """Whom the directory lets in beside its owner; None: everyone, or somebody whom `encode` would not. `OSError`."""
    if _acl_of(path) is None:
        return frozenset() if not os.lstat(path).st_mode & 0o077 else None
    found = entrants_of(path)
    return found.users if found is not None and not found.groups and not found.others_too else None


def _acl_of(path: str) -> bytes | None:
    """The ACL beyond what the mode says; None where there is none."""
    try:
        return os.getxattr(path, ATTRIBUTE, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.ENOTSUP):
            raise
        return None


def is_known_to(path: str) -> bool:
    """Whether the file system that the path lies on keeps ACLs. Raises `OSError`."""
    try:
        os.getxattr(path, ATTRIBUTE)
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.ENOTSUP):
            raise
        return error.errno == errno.ENODATA
    return True

"""Who may enter a directory, as the POSIX ACL that Linux keeps in the attribute ``system.posix_acl_access``.

Law: the bytes say it in full (linux/posix_acl_xattr.h; acl(5)), so that setting them is one step from the old state to
the new one, and the mode follows: the kernel writes an ACL that a mode can say as that mode alone.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Collection

ATTRIBUTE = "system.posix_acl_access"

_HEADER = struct.Struct("<I")
_ENTRY = struct.Struct("<HHI")  # tag, permissions, uid
_VERSION = 2
_OWNER, _USER, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x10, 0x20
_ENTER, _ALL = 0o5, 0o7
_NOBODY = 0xFFFFFFFF  # stands where an entry names no one


def encode(readers: Collection[int] | None) -> bytes:
    """The owner may do all, these uids read and enter, and nobody else anything; None: everyone may read and enter."""
    others = _ENTER if readers is None else 0
    named = [(_USER, _ENTER, uid) for uid in sorted(set(readers or ()))]
    mask = [(_MASK, _ENTER, _NOBODY)] if named else []
    entries = [(_OWNER, _ALL, _NOBODY), *named, (_GROUP, others, _NOBODY), *mask, (_OTHER, others, _NOBODY)]
    return _HEADER.pack(_VERSION) + b"".join(_ENTRY.pack(*entry) for entry in entries)


def readers_of(path: str) -> frozenset[int] | None:
    """Whom the directory lets in beside its owner; None: everyone, or somebody whom `encode` would not. `OSError`."""
    try:
        data = os.getxattr(path, ATTRIBUTE, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.ENOTSUP):
            raise
        return frozenset() if not os.lstat(path).st_mode & 0o077 else None
    uids = frozenset(uid for tag, _, uid in _ENTRY.iter_unpack(data[_HEADER.size :]) if tag == _USER)
    return uids if data == encode(uids) else None


def is_known_to(path: str) -> bool:
    """Whether the file system that the path lies on keeps ACLs. Raises `OSError`."""
    try:
        os.getxattr(path, ATTRIBUTE)
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.ENOTSUP):
            raise
        return error.errno == errno.ENODATA
    return True

"""Who may enter the cache at all: everybody, or those whom ``[access]`` names.

Law: the root's mode is the administrator's, whose setting says it. It is closed only while that names somebody, and
opened again only where hubd had closed it: the ACL that it writes names its own user too, whom nobody else would name.
"""

from __future__ import annotations

import os

from hubd.config import AccessSettings, ConfigError
from hubd.store import acl
from hubd.store.disk import Disk

_OTHERS = 0o005


def settle(root: str, access: AccessSettings, disk: Disk | None = None) -> None:
    """The cache's root is closed to all but whom the settings name, or open again. Nothing is done where it is so.

    Raises `ConfigError` where that cannot be.
    """
    disk = disk or Disk()
    try:
        before = acl.entrants_of(root)
        is_ours = before is not None and os.geteuid() in before.users
        if access.is_restricted:
            wanted = _entrants(access)
            if before != wanted:
                disk.let_in(root, wanted.users, wanted.groups)
        elif is_ours:
            disk.let_in(root, None)
        else:
            return
        disk.fsync_directory(root)
    except OSError as error:
        if access.is_restricted:
            raise ConfigError(
                f"access: {root} cannot be closed to all but whom the settings name: {error.strerror}; put the cache "
                "on a file system with ACLs, such as ext4, xfs or btrfs, name groups rather than hundreds of users, or "
                "restrict nobody"
            ) from error
        raise ConfigError(f"access: {root} cannot be opened to everybody again: {error.strerror}") from error


def warning(root: str, access: AccessSettings) -> str | None:
    """What somebody did to a root since it was settled, and the remedy; None when all is as it should be. `OSError`."""
    before = acl.entrants_of(root)
    if access.is_restricted:
        if before == _entrants(access):
            return None
        return f"somebody changed who may enter {root}, against [access]: reload hubd, which puts it right"
    if os.lstat(root).st_mode & _OTHERS != _OTHERS:
        return (
            f"everybody may ask, and {root} is closed to others, who cannot open what they are told: chmod o+rx {root},"
            " or name in [access] who may"
        )
    return None


def _entrants(access: AccessSettings) -> acl.Entrants:
    users = frozenset((*access.users, *access.admin_users, os.geteuid()))
    return acl.Entrants(users, frozenset((*access.groups, *access.admin_groups)), others_too=False)

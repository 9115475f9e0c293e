"""Files that decide what the service does.

Law: such a file counts only if root or the daemon's own user wrote it, and nobody else could have.
"""

from __future__ import annotations

import os
import stat


def fault(status: os.stat_result) -> str | None:
    """What is wrong with such a file's owner or mode, and the remedy; None: nothing.

    A group may write if it is root's, or the owner's own (of the same number), as with the directories above a cache.
    """
    if status.st_uid not in (0, os.geteuid()):
        return f"belongs to uid {status.st_uid}, who could change what hubd does: chown it to root"
    group_may_write = status.st_mode & 0o020 and status.st_gid not in (0, status.st_uid)
    if status.st_mode & 0o002 or group_may_write:
        return f"can be written by others (mode {stat.S_IMODE(status.st_mode):04o}): chmod it to 0644"
    return None

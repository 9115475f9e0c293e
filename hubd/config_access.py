"""Users and groups that settings name, by name or by number.

Law: a name is looked up when the settings are read, and never again; one that nobody has is a mistake, for it would let
in nobody, or whoever gets it later.
"""

from __future__ import annotations

import grp
import pwd
from collections.abc import Callable

ADMIN_GROUP = "hubd"

_MAX_ID = (1 << 32) - 2  # the one above means "no change" to the kernel: setresuid(2)


def uid(value: object) -> int:
    """A user's number, from a name or a number. Raises `ValueError`."""
    return _number(value, "user", lambda name: pwd.getpwnam(name).pw_uid)


def gid(value: object) -> int:
    """A group's number, from a name or a number. Raises `ValueError`."""
    return _number(value, "group", lambda name: grp.getgrnam(name).gr_gid)


def admin_groups() -> tuple[int, ...]:
    """The service's own group, on machines that have it."""
    try:
        return (grp.getgrnam(ADMIN_GROUP).gr_gid,)
    except KeyError:
        return ()


def _number(value: object, kind: str, look_up: Callable[[str], int]) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value <= _MAX_ID:
            raise ValueError(f"{value} is no number of a {kind}")
        return value
    if not isinstance(value, str):
        raise ValueError(f'a {kind} is a name such as "alice", or a number such as 1001')
    try:
        return look_up(value)
    except (KeyError, ValueError):  # the second for a name with a NUL
        hint = ", and a number has no quotes" if value.isdigit() else ""
        raise ValueError(
            f"there is no {kind} {value!r} on this machine{hint}: mend the name, or start hubd when the service that "
            "knows it (LDAP, say) is there"
        ) from None

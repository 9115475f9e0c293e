"""Whether this daemon can tell its users apart.

Law: in a user namespace the kernel names those who are not mapped into it by one uid, the same for all of them
(user_namespaces(7)). Nothing that hubd does for one user can be kept from another then, and that is said.
"""

from __future__ import annotations

_ALL = 2**32 - 1
_UID_MAP = "/proc/self/uid_map"
_OVERFLOW = "/proc/sys/kernel/overflowuid"


def warning(file: str = _UID_MAP) -> str | None:
    """What is wrong where a service runs, and the remedy; None where every user has a uid of its own."""
    try:
        with open(file, encoding="ascii") as opened:
            mapped = sum(int(line.split()[2]) for line in opened)
        with open(_OVERFLOW, encoding="ascii") as opened:
            nobody = int(opened.read())
    except OSError:  # no /proc: then nothing is known
        return None
    if mapped >= _ALL:
        return None
    return (
        f"hubd runs in a user namespace, where users outside of it all look like uid {nobody}, root among them: "
        "they are one to limits, access and private modules; run it without "
        "(PrivateUsers=no, hostUsers: true, --userns=host)"
    )

"""Names that stand for something else: a handle's path in the API, a uid's user."""

from __future__ import annotations

import pwd
import re
from collections.abc import Iterable

from hubclient.contract.errors import HandleInvalid
from hubclient.contract.handles import canonical, is_path, key

_KEY = re.compile(r"[0-9a-f]{64}")


def module_path(handle: str) -> str:
    """The module's path in the API; a key stands for itself, as where several users have a handle.

    Raises `HandleInvalid`, for a path too: the cache has nothing of that name.
    """
    if _KEY.fullmatch(handle):
        return f"/v1/modules/{handle}"
    if is_path(handle):
        raise HandleInvalid("this is a path: the cache knows modules by their URLs and kaggle: names")
    return f"/v1/modules/{key(canonical(handle))}"


def of_uid(uid: int) -> str:
    """`alice`, or the number where this machine has no name for it."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def of_uids(uids: Iterable[int]) -> str:
    """`alice (uid 1000), uid 54301`."""
    return ", ".join(f"{name} (uid {uid})" if (name := of_uid(uid)) != str(uid) else f"uid {uid}" for uid in uids)

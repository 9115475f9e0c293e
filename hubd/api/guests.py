"""How many of the daemon's connections one user may have.

Law: one user leaves a quarter of them to the others. Root and the daemon's own user may have all.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Hashable

_PRUNE_AT = 2


class Guests:
    """Who is at the other end of which connection."""

    def __init__(self) -> None:
        self._uids: dict[Hashable, int] = {}

    def may_come(self, uid: int, present: Collection[Hashable], max_connections: int) -> bool:
        """Whether one more connection is this user's to have, beside those that are `present`."""
        if len(present) >= max_connections:
            return False
        share = max(1, max_connections * 3 // 4)
        if uid in (0, os.geteuid()) or len(present) < share:
            return True
        return sum(self._uids.get(one) == uid for one in present) < share

    def came(self, connection: Hashable, uid: int, present: Collection[Hashable]) -> None:
        """It is this user's."""
        self._uids[connection] = uid
        if len(self._uids) > _PRUNE_AT * (len(present) + 64):
            self._uids = {one: self._uids[one] for one in present if one in self._uids} | {connection: uid}

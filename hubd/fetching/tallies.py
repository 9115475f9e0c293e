"""What each user was answered since the daemon started: for whoever must know who uses it, and how well.

Law: it is bounded, and nothing is decided by it.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from hubd.fetching.counters import Outcome

MAX_USERS = 1024


@dataclass
class Tally:
    """Of one user: `answers` are all, and `hits` those of them that the cache had."""

    hits: int = 0
    answers: int = 0


class Tallies:
    """By uid; who was answered the longest ago is forgotten when there are too many. For one thread."""

    def __init__(self, max_users: int = MAX_USERS) -> None:
        self._max_users = max_users
        self._tallies: OrderedDict[int, Tally] = OrderedDict()

    def answered(self, uid: int, outcome: Outcome) -> None:
        """The daemon answered this user."""
        tally = self._of(uid)
        tally.answers += 1
        tally.hits += outcome == "hit"

    def used(self, uid: int, count: int) -> None:
        """This user reported so many uses that needed no daemon: each was a hit."""
        if count:
            tally = self._of(uid)
            tally.answers += count
            tally.hits += count

    def all(self) -> dict[int, Tally]:
        return dict(self._tallies)

    def _of(self, uid: int) -> Tally:
        tally = self._tallies.setdefault(uid, Tally())
        self._tallies.move_to_end(uid)
        if len(self._tallies) > self._max_users:
            self._tallies.popitem(last=False)
        return tally

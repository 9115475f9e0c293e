"""The last errors: how many of which kind, and what is known of those that everybody may know of.

Law: it is bounded. Of what went wrong with a module that is not for everybody, the code is counted, as the figures for
Prometheus count it, and nothing is kept that names the module.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from hubd.events import Event

#: Whose eyes see what everybody may see: (uid_t) -1 is no user's, chown(2).
NOBODY = -1

_MOST = 20


class Failure(NamedTuple):
    """Something that went wrong with a module. `at`: unix seconds."""

    at: float
    handle: str
    code: str
    detail: str


class Tally(NamedTuple):
    """Errors of one code since the daemon started. `last_at`: when that was last noticed, in unix seconds."""

    code: str
    times: int
    last_at: float


class Lately:
    """`noticed` is told of events, and `observe` of the counted errors now and then."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._failures: deque[Failure] = deque(maxlen=_MOST)
        self._tallies: dict[str, Tally] = {}

    def noticed(self, event: Event) -> None:
        """An event that everybody may know of."""
        match event.name, event.fields:
            case "fetch-ended", {"failed": True, "handle": str(handle), "outcome": str(code), **rest}:
                self._add(event, handle, code, rest)
            case "damaged", {"handle": str(handle)}:
                self._add(event, handle, "damaged", {"detail": "its files were changed on the disk"})

    def observe(self, errors: Mapping[str, int]) -> None:
        """So many of each code, all in all."""
        for code, times in errors.items():
            if code not in self._tallies or self._tallies[code].times != times:
                self._tallies[code] = Tally(code, times, self._clock())

    def failures(self) -> list[Failure]:
        """The last one first."""
        return list(reversed(self._failures))

    def tallies(self) -> list[Tally]:
        """The code that was noticed last first."""
        return sorted(self._tallies.values(), key=lambda tally: (-tally.last_at, tally.code))

    def _add(self, event: Event, handle: str, code: str, fields: Mapping[str, Any]) -> None:
        self._failures.append(Failure(event.at.timestamp(), handle, code, str(fields.get("detail", ""))))

"""Where a module may be had: at the mirrors of its handle, and at the handle's own origin.

Law: every place is asked in its turn; one that failed only loses its turn to those that did not, and only for a while.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from hubclient.contract import handles
from hubclient.contract.errors import AddressForbidden, HandleForbidden, HubError
from hubd.config import Mirror
from hubd.config_urls import is_directory
from hubd.failures import Hopeless

_FIRST_SECONDS = 30.0
_LONGEST_SECONDS = 600.0
_MAX_REMEMBERED = 1024


@dataclass(frozen=True)
class Place:
    """One place for one module. `name`: the mirror's URL as configured, or the host of the handle's own origin."""

    name: str
    url: str
    is_mirror: bool

    @property
    def is_directory(self) -> bool:
        return self.is_mirror and is_directory(self.url)


def places(handle: str, mirrors: Iterable[Mirror]) -> list[Place]:
    """The places for a canonical handle, in the order of the configuration; its own origin is the last."""
    found = [
        Place(url, url + handle.removeprefix(mirror.match), True)
        for mirror in mirrors
        if handle.startswith(mirror.match) and stays_below(handle.removeprefix(mirror.match))
        for url in mirror.urls
    ]
    return [*found, Place(handles.host(handle), handle, False)]


def stays_below(rest: str) -> bool:
    """Whether what follows the prefix in a handle is below the mirror's URL for every server that decodes it.

    A canonical handle has no ``..`` segment; but some servers take ``%2f`` for a slash, and ``..;`` for ``..``.
    """
    path = rest.partition("?")[0]
    names = [unquote_to_bytes(segment).partition(b";")[0] for segment in path.split("/")]
    return path != "" and not any(name in (b".", b"..") or b"/" in name or b"\\" in name for name in names)


class Health:
    """What failed lately. `clock` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failing: OrderedDict[str, tuple[float, int]] = OrderedDict()  # until when, and how often in a row

    def failed(self, what: str) -> None:
        """A place's name, or the URL of one module there, failed: for 30 s, each time in a row twice as long."""
        until, times = self._failing.get(what, (0.0, 0))
        if self._clock() < until:
            return  # of several fetches that fail together only the first counts
        self._failing[what] = self._clock() + min(_LONGEST_SECONDS, _FIRST_SECONDS * 2**times), min(times + 1, 16)
        self._failing.move_to_end(what)
        if len(self._failing) > _MAX_REMEMBERED:
            self._failing.popitem(last=False)

    def works(self, place: Place) -> None:
        self._failing.pop(place.name, None)
        self._failing.pop(place.url, None)

    def in_order(self, found: Sequence[Place]) -> list[Place]:
        """Those that did not fail lately come first; else the order stays."""
        return sorted(found, key=self._is_failing)

    def _is_failing(self, place: Place) -> bool:
        now = self._clock()
        return any(now < self._failing.get(what, (0.0, 0))[0] for what in (place.name, place.url))


def verdict(failures: Sequence[tuple[Place, HubError]]) -> HubError:
    """The error of a module that no place gave: one of theirs, whose text tells all that was tried.

    What asking again may change comes first: a place that could not be asked may have the module. Else the handle's own
    origin knows best, unless it must not be asked.
    """
    told = min(failures, key=_rank)[1]
    others = [error.detail for _, error in failures if error is not told]
    if others:
        told.detail = "; ".join((told.detail, *others))
        told.args = (told.detail,)
    return told


def _rank(failure: tuple[Place, HubError]) -> int:
    place, error = failure
    if error.retryable and not isinstance(error, Hopeless):
        return 0
    if isinstance(error, HandleForbidden | AddressForbidden):
        return 3
    return 2 if place.is_mirror else 1

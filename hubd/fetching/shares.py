"""What one user may have under way, so that others find turns and room.

Law: what counts is what a user started, not what it waits for: joining is free. It is counted from the fetches
themselves, so that nothing has to be given back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from hubclient.contract.errors import ArchiveTooLarge, TooBusy
from hubclient.contract.quantities import format_size
from hubd.config import LimitSettings
from hubd.network.waiting_line import User


class ShareSpent(TooBusy):
    """A user has so much under way that there may be no more now."""


class ShareTooSmall(ArchiveTooLarge):
    """What one user alone may never have, though others may."""


#: What says nothing of the module, but of who started its fetch.
OWN_LIMITS = (ShareSpent, ShareTooSmall)


class Started(Protocol):
    """A fetch, as far as it counts here."""

    starter: User
    started_as_prefetch: bool

    @property
    def reserved_bytes(self) -> int: ...


class Shares:
    """The limits of users, as they are now, beside the fetches under way. None of them holds for None."""

    def __init__(self, limits: Callable[[], LimitSettings], fetches: Callable[[], Iterable[Started]]) -> None:
        self._limits = limits
        self._fetches = fetches

    def require_start(self, user: User, *, is_prefetch: bool) -> None:
        """Raises `ShareSpent` when the user has started as many as it may."""
        if user is None:
            return
        limits = self._limits()
        most = limits.user_prefetches if is_prefetch else limits.user_fetches
        if sum(one.started_as_prefetch == is_prefetch for one in self._of(user)) >= most:
            what, setting = ("prefetches", "user_prefetches") if is_prefetch else ("fetches", "user_fetches")
            raise ShareSpent(
                f"{most} {what} that you started are under way, which is as many as one user may have "
                f"(limits.{setting}): try again when one of them is done"
            )

    def require_bytes(self, fetch: Started, total_bytes: int) -> int | None:
        """How much more than `total_bytes` the fetch may have set aside for it now; None: any.

        Raises `ShareTooSmall` when one user may never have so much, and `ShareSpent` when this one may not now.
        """
        most_bytes = self._limits().user_bytes
        if fetch.starter is None or most_bytes is None:
            return None
        if total_bytes > most_bytes:
            raise ShareTooSmall(
                f"the module needs {format_size(total_bytes)} or more while it is fetched, and one user may have "
                f"{format_size(most_bytes)} in flight (limits.user_bytes): ask an administrator to fetch it"
            )
        others_bytes = sum(one.reserved_bytes for one in self._of(fetch.starter) if one is not fetch)
        if (left_bytes := most_bytes - others_bytes - total_bytes) < 0:
            raise ShareSpent(
                f"your fetches have {format_size(others_bytes)} in flight, this one needs {format_size(total_bytes)}, "
                f"and one user may have {format_size(most_bytes)} (limits.user_bytes): try again when one is done"
            )
        return left_bytes

    def _of(self, user: User) -> Iterable[Started]:
        return (one for one in self._fetches() if one.starter == user)

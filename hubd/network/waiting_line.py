"""A line of those who wait for something that there is too little of.

Law: whoever is urgent at that moment goes first; among equals users take turns, and of one user's who came first.
Nobody is kept waiting by one whom what is free does not suit.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass

#: Whose turn it is: a uid, or None for administrators and the daemon itself, who are one user together.
User = int | None

_MOST_USERS = 1024


def nobody() -> Collection[User]:
    """Who waits for what no user asked for."""
    return ()


@dataclass(eq=False)
class _Waiting:
    urgent: Callable[[], bool]
    users: Callable[[], Collection[User]]
    admit: Callable[[], bool]
    admitted: asyncio.Future[None]


class WaitingLine:
    """Of the tasks of one event loop. Whoever frees something, or makes somebody urgent, lets it `advance`."""

    def __init__(self) -> None:
        self._waiting: list[_Waiting] = []
        # Who was admitted last stands last. One who is forgotten had waited for longer than all who are not.
        self._served: OrderedDict[User, int] = OrderedDict()
        self._admissions = 0

    def __len__(self) -> int:
        return len(self._waiting)

    async def wait(
        self,
        urgent: Callable[[], bool],
        admit: Callable[[], bool],
        give_back: Callable[[], None],
        users: Callable[[], Collection[User]] = nobody,
    ) -> None:
        """Returns when `admit` has: it takes what is needed and says so, or takes nothing. It, `urgent` and `users` (on
        whose behalf one waits: of several, who was served longest ago counts) are asked again and again. Cancelled just
        after it was admitted, the task gives back.
        """
        if admit():  # those in line would have been admitted before, if this could be theirs
            self._serve(users())
            return
        waiting = _Waiting(urgent, users, admit, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        try:
            await waiting.admitted
        except asyncio.CancelledError:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            else:
                give_back()
            raise

    def advance(self, is_any_left: Callable[[], bool] = lambda: True) -> None:
        """Admits all who can be, until nothing of what they wait for is left."""
        # Who is being cancelled stays in line until its task has heard of it.
        waiting = [one for one in self._waiting if not one.admitted.done()]
        while waiting and is_any_left():
            waiting.sort(key=self._rank)  # anew after each: it was a turn of its users
            for one in waiting:
                if one.admit():
                    self._serve(one.users())
                    self._waiting.remove(one)
                    waiting.remove(one)
                    one.admitted.set_result(None)
                    break
            else:
                return

    def _rank(self, one: _Waiting) -> tuple[bool, int]:
        return not one.urgent(), min((self._served.get(user, 0) for user in one.users()), default=0)

    def _serve(self, users: Collection[User]) -> None:
        self._admissions += 1
        for user in users:
            self._served[user] = self._admissions
            self._served.move_to_end(user)
        while len(self._served) > _MOST_USERS:
            self._served.popitem(last=False)

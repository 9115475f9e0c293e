"""A line of those who wait for something that there is too little of.

Law: whoever is urgent at that moment goes first, among equals who came first, and nobody is kept waiting by one whom
what is free does not suit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(eq=False)
class _Waiting:
    urgent: Callable[[], bool]
    admit: Callable[[], bool]
    admitted: asyncio.Future[None]


class WaitingLine:
    """Of the tasks of one event loop. Whoever frees something, or makes somebody urgent, lets it `advance`."""

    def __init__(self) -> None:
        self._waiting: list[_Waiting] = []

    async def wait(self, urgent: Callable[[], bool], admit: Callable[[], bool], give_back: Callable[[], None]) -> None:
        """Returns when `admit` has: it takes what is needed and says so, or takes nothing. It and `urgent` are asked
        again and again. Cancelled just after it was admitted, the task gives back.
        """
        if admit():  # those in line would have been admitted before, if this could be theirs
            return
        waiting = _Waiting(urgent, admit, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        try:
            await waiting.admitted
        except asyncio.CancelledError:
            if waiting in self._waiting:
                self._waiting.remove(waiting)
            else:
                give_back()
            raise

    def advance(self) -> None:
        """Admits all who can be."""
        # Who is being cancelled stays in line until its task has heard of it.
        waiting = [one for one in self._waiting if not one.admitted.done()]
        for one in sorted(waiting, key=lambda one: not one.urgent()):
            if one.admit():
                self._waiting.remove(one)
                one.admitted.set_result(None)

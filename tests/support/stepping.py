"""Two actors whose steps happen in exactly the order that a test says: races without luck, and without sleeping.

Law: at any moment one thread runs, either the test's or one actor's, between two of its named points.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")

_LIMIT_SECONDS = 60.0


class Actor(Generic[T]):
    """A thread that waits at each of its points until it is let on."""

    def __init__(self, action: Callable[[], T], points: Sequence[str]) -> None:
        self._action = action
        self._points = points
        self._turn = threading.Semaphore(0)
        self._arrived = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._result: T | None = None
        self.error: BaseException | None = None
        self.passed: list[str] = []
        self.is_done = False

    def start(self) -> None:
        """Let it go to its first point."""
        self._thread.start()
        self._wait(self._arrived)

    def pause(self, point: str) -> None:
        """Called by the code under test; at other points, and in other threads, it does nothing."""
        if threading.current_thread() is self._thread and point in self._points:
            self._arrived.release()
            self._wait(self._turn)
            self.passed.append(point)

    def step(self) -> None:
        """Let it go on to its next point, or to its end."""
        if not self.is_done:
            self._turn.release()
            self._wait(self._arrived)

    def finish(self) -> T | None:
        """Let it run to its end; what it returned, or None and `error`."""
        while not self.is_done:
            self.step()
        self._thread.join(_LIMIT_SECONDS)
        return self._result

    def _run(self) -> None:
        try:
            self._result = self._action()
        except BaseException as error:
            self.error = error
        finally:
            self.is_done = True
            self._arrived.release()

    @staticmethod
    def _wait(semaphore: threading.Semaphore) -> None:
        assert semaphore.acquire(timeout=_LIMIT_SECONDS), "an actor is stuck"


def interleavings(one: int, other: int) -> Iterator[Sequence[bool]]:
    """Every order of so many steps of one actor (True) and of another (False)."""
    for places in itertools.combinations(range(one + other), one):
        yield [place in places for place in range(one + other)]

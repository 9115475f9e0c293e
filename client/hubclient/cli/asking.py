"""Several questions to the daemon at once, heard in one place.

Law: the threads only ask and put what they hear into a queue; the main thread alone prints. They are daemon
threads that nobody joins, so Ctrl-C ends the command while they still wait, and the end of the process closes
their connections, which is how the daemon learns that we left.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from hubclient.contract.errors import HubError

AT_ONCE = 32
TICK_SECONDS = 0.1

Report = Callable[[dict[str, Any]], None]
Ask = Callable[[str, Report], dict[str, Any]]


class Progress(NamedTuple):
    """A fetch went on; `fetch` is the API's Fetch."""

    number: int
    fetch: dict[str, Any]


class Answered(NamedTuple):
    """A question has its answer, the API's Resolved."""

    number: int
    result: dict[str, Any]
    seconds: float


class Failed(NamedTuple):
    """A question has ended in an error."""

    number: int
    error: HubError


Event = Progress | Answered | Failed


def ask_all(handles: Sequence[str], ask: Ask, *, at_once: int = AT_ONCE) -> Iterator[Event | None]:
    """Ask for each handle, `at_once` of them at a time, and yield what is heard until each has its end.

    Yields None when nothing was heard for `TICK_SECONDS`, so that a display can move. An exception of `ask` that
    is no `HubError` is raised here.
    """
    events: queue.SimpleQueue[Event | BaseException] = queue.SimpleQueue()
    waiting = queue.SimpleQueue[tuple[int, str]]()
    for question in enumerate(handles):
        waiting.put(question)

    def work() -> None:
        while True:
            try:
                number, handle = waiting.get_nowait()
            except queue.Empty:
                return
            events.put(_answer(number, handle, ask, events.put))

    for thread in range(min(at_once, len(handles))):
        threading.Thread(target=work, name=f"hubctl-ask-{thread}", daemon=True).start()
    left = len(handles)
    while left:
        try:
            event = events.get(timeout=TICK_SECONDS)
        except queue.Empty:
            yield None
            continue
        if isinstance(event, BaseException):
            raise event
        left -= not isinstance(event, Progress)
        yield event


def _answer(number: int, handle: str, ask: Ask, put: Callable[[Event], None]) -> Event | BaseException:
    started = time.monotonic()
    try:
        result = ask(handle, lambda fetch: put(Progress(number, fetch)))
    except HubError as error:
        return Failed(number, error)
    except BaseException as error:
        return error
    return Answered(number, result, time.monotonic() - started)

"""Several questions at once, heard in one place."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from hubclient.cli.asking import Answered, Event, Failed, Progress, Report, ask_all
from hubclient.contract.errors import UpstreamNotFound


def test_questions_are_asked_at_the_same_time() -> None:
    all_here = threading.Barrier(3)

    def ask(handle: str, report: Report) -> dict[str, Any]:
        all_here.wait(timeout=30)  # breaks, and fails the test, unless all three are in here together
        return {"path": handle}

    answers = [event for event in ask_all(["a", "b", "c"], ask) if event is not None]

    assert {(event.number, event.result["path"]) for event in answers if isinstance(event, Answered)} == {
        (0, "a"),
        (1, "b"),
        (2, "c"),
    }


def test_no_more_than_at_once_are_asked_at_the_same_time_and_all_are_asked() -> None:
    inside, most, lock = 0, 0, threading.Lock()

    def ask(handle: str, report: Report) -> dict[str, Any]:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        report({})
        with lock:
            inside -= 1
        return {}

    events = [event for event in ask_all([str(n) for n in range(50)], ask, at_once=4) if isinstance(event, Answered)]

    assert len(events) == 50
    assert most <= 4


def test_progress_comes_before_the_answer_and_a_failure_stops_no_other() -> None:
    def ask(handle: str, report: Report) -> dict[str, Any]:
        report({"id": handle})
        if handle == "bad":
            raise UpstreamNotFound("no such module")
        return {}

    heard: dict[int, list[type[Event]]] = {0: [], 1: []}
    for event in ask_all(["bad", "good"], ask):
        if event is not None:
            heard[event.number].append(type(event))

    assert heard == {0: [Progress, Failed], 1: [Progress, Answered]}


def test_a_mistake_in_a_thread_is_not_swallowed() -> None:
    def ask(handle: str, report: Report) -> dict[str, Any]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(ask_all(["a"], ask))


def test_a_display_can_move_while_nothing_is_heard() -> None:
    go = threading.Event()

    def ask(handle: str, report: Report) -> dict[str, Any]:
        assert go.wait(timeout=30)
        return {}

    events = ask_all(["a"], ask)
    assert next(events) is None
    go.set()
    assert isinstance([event for event in events if event is not None][-1], Answered)

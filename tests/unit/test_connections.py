"""Connections: every fetch has one before any has several, and shares become even."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest

from hubd.network.connections import Connections, Place


def always() -> bool:
    return True


def never() -> bool:
    return False


def extras(place: Place, count: int) -> list[Place]:
    """So many further places; fewer is a failure."""
    taken = [place.extra() for _ in range(count)]
    assert None not in taken
    return [one for one in taken if one is not None]


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Queue:
    """Fetches that wait for their first place, each in a task, until the block ends."""

    def __init__(self, connections: Connections) -> None:
        self.connections = connections
        self.had: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.places: dict[str, Place] = {}

    async def ask(self, name: str, host: str = "a", urgent: Callable[[], bool] = always) -> None:
        async def have() -> None:
            async with self.connections.first(host, urgent) as place:
                self.had.append(name)
                self.places[name] = place
                await asyncio.Event().wait()

        self.tasks[name] = asyncio.create_task(have())
        await settle()

    async def end(self, name: str) -> None:
        self.tasks[name].cancel()
        await settle()


async def test_who_comes_when_all_places_of_the_host_are_taken_waits_and_others_do_not() -> None:
    queue = Queue(Connections(2, 10))
    for name in ("1", "2", "3", "4"):
        await queue.ask(name)
    await queue.ask("elsewhere", "b")
    assert queue.had == ["1", "2", "elsewhere"]
    await queue.end("1")
    await queue.end("2")
    assert queue.had == ["1", "2", "elsewhere", "3", "4"]


async def test_the_urgent_go_first() -> None:
    queue = Queue(Connections(1, 10))
    for name, urgent in (("1", always), ("prefetch", never), ("client", always)):
        await queue.ask(name, urgent=urgent)
    await queue.end("1")
    assert queue.had == ["1", "client"]


async def test_the_total_holds_for_all_hosts_together() -> None:
    queue = Queue(Connections(5, 3))
    for name in "abcd":
        await queue.ask(name, host=name)
    assert queue.had == ["a", "b", "c"]
    assert queue.places["a"].extra() is None
    await queue.end("b")
    assert queue.had == ["a", "b", "c", "d"]


async def test_an_extra_is_never_waited_for_and_one_is_wanted_back_by_who_waits_for_a_first() -> None:
    queue = Queue(Connections(3, 10))
    await queue.ask("rich")
    rich = queue.places["rich"]
    one, other = extras(rich, 2)
    assert rich.extra() is None
    assert not one.is_wanted
    await queue.ask("poor")
    assert one.is_wanted
    assert other.is_wanted, "whichever can be given back first"
    one.release()
    await settle()
    assert queue.had == ["rich", "poor"]
    assert not other.is_wanted
    assert not one.is_wanted


async def test_while_somebody_waits_it_is_the_richest_who_gives_back() -> None:
    queue = Queue(Connections(5, 10))
    for name in ("rich", "middling"):
        await queue.ask(name)
    of_rich, of_middling = extras(queue.places["rich"], 2), extras(queue.places["middling"], 1)
    await queue.ask("poor")
    assert of_rich[0].is_wanted
    assert not of_middling[0].is_wanted


async def test_a_place_anywhere_is_wanted_when_the_total_is_used_up() -> None:
    queue = Queue(Connections(5, 3))
    await queue.ask("rich")
    taken = extras(queue.places["rich"], 2)
    await queue.ask("elsewhere", "b")
    assert queue.had == ["rich"]
    assert taken[0].is_wanted
    taken[0].release()
    await settle()
    assert queue.had == ["rich", "elsewhere"]


async def test_a_fetchs_last_place_is_never_wanted() -> None:
    queue = Queue(Connections(1, 10))
    await queue.ask("one")
    await queue.ask("waiting")
    assert not queue.places["one"].is_wanted


async def test_shares_become_even_when_both_would_have_more() -> None:
    connections = Connections(8, 100)
    async with connections.first("a", always) as early, connections.first("a", always) as late:
        of_early, of_late = extras(early, 6), list[Place]()
        while (more := late.extra()) is not None or of_early[-1].is_wanted:
            if more is not None:
                of_late.append(more)
            else:
                of_early.pop().release()
                assert early.extra() is None, "what was given back is for the other"
        assert (1 + len(of_early), 1 + len(of_late)) == (4, 4)
        for place in (*of_early, *of_late):
            place.release()


async def test_who_wants_no_more_keeps_nobody_from_more() -> None:
    connections = Connections(8, 100)
    async with connections.first("a", always) as content, connections.first("a", always) as eager:
        taken = extras(eager, 6)
        assert not taken[0].is_wanted
        assert content.extra() is None
        assert taken[0].is_wanted
        for place in taken:
            place.release()


async def test_to_release_twice_gives_back_once() -> None:
    connections = Connections(2, 2)
    async with connections.first("a", always) as place:
        (one,) = extras(place, 1)
        one.release()
        one.release()
        (again,) = extras(place, 1)
        assert place.extra() is None
        again.release()


async def test_after_its_end_a_fetch_gets_no_extra_and_those_it_has_still_count() -> None:
    connections = Connections(2, 2)
    async with connections.first("a", always) as place:
        (left,) = extras(place, 1)
    async with connections.first("a", always) as other:
        assert other.extra() is None
        left.release()
        (again,) = extras(other, 1)
        again.release()
    assert place.extra() is None


@pytest.mark.parametrize("admitted", [False, True])
async def test_who_is_cancelled_in_line_leaves_its_place_to_the_next(admitted: bool) -> None:
    connections = Connections(1, 10)
    queue = Queue(connections)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(connections.first("a", always))
        await queue.ask("cancelled")
        await queue.ask("next")
        if admitted:
            await stack.aclose()
        queue.tasks["cancelled"].cancel()
    await settle()
    assert queue.had == ["next"]
    await queue.end("next")
    async with asyncio.timeout(1), connections.first("a", always):
        pass

"""Turns of fetches: who is waited for goes first, and users take turns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from hubd.fetching.slots import Slots
from hubd.network.waiting_line import User


class Turns:
    """Tasks that wait for turns of one test, by name; `had` tells in which order they got them."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.had: list[str] = []
        self.urgent: set[str] = set()
        self.users: dict[str, set[User]] = {}
        self.pauses: dict[str, asyncio.Event] = {}  # who gives its turn back when, to wait for another
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ends: dict[str, asyncio.Event] = {}

    async def ask(self, *names: str, urgent: bool = True, user: User = None) -> None:
        for name in names:
            self.users[name] = {user}
            if urgent:
                self.urgent.add(name)
            self._ends[name] = asyncio.Event()
            self._tasks[name] = asyncio.create_task(self._have(name))
        await settle()

    async def end(self, name: str) -> None:
        self._ends[name].set()
        await settle()

    async def cancel(self, name: str) -> None:
        self._tasks[name].cancel()
        await settle()

    async def _have(self, name: str) -> None:
        async with self.slots.turn(lambda: name in self.urgent, lambda: self.users[name]) as turn:
            self.had.append(name)
            if (pauses := self.pauses.get(name)) is not None:
                await pauses.wait()
                turn.pause()
                await turn.resume()
                self.had.append(f"{name} again")
            await self._ends[name].wait()

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)


@pytest.fixture
async def one() -> AsyncIterator[Turns]:
    turns = Turns(Slots(1))
    yield turns
    await turns.close()
    assert not turns.slots.locked(), "every turn came back"


@pytest.fixture
async def three() -> AsyncIterator[Turns]:
    turns = Turns(Slots(3))
    yield turns
    await turns.close()
    assert not turns.slots.locked(), "every turn came back"


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_among_equals_who_came_first_is_served_first(one: Turns) -> None:
    await one.ask("a", "b", "c")
    assert one.had == ["a"]
    assert one.slots.locked()
    await one.end("a")
    await one.end("b")
    assert one.had == ["a", "b", "c"]


async def test_a_client_goes_before_the_prefetches_that_came_earlier(one: Turns) -> None:
    await one.ask("running", "p1", "p2", urgent=False)
    await one.ask("client")
    await one.end("running")
    assert one.had == ["running", "client"]
    await one.end("client")
    assert one.had == ["running", "client", "p1"]


async def test_a_prefetch_that_a_client_joins_goes_first_and_falls_back_when_the_client_leaves(one: Turns) -> None:
    await one.ask("running", "p1", "p2", "p3", urgent=False)
    one.urgent.update({"p2", "p3"})
    one.urgent.remove("p2")
    await one.end("running")
    assert one.had == ["running", "p3"]


async def test_the_last_free_turn_is_kept_for_a_client(three: Turns) -> None:
    await three.ask("p1", "p2", "p3", urgent=False)
    assert three.had == ["p1", "p2"]
    await three.ask("client")
    assert three.had == ["p1", "p2", "client"]
    await three.end("client")
    assert three.had == ["p1", "p2", "client"], "it is free again, and kept"
    await three.end("p1")
    assert three.had == ["p1", "p2", "client", "p3"]


async def test_a_waiting_prefetch_that_is_promoted_has_the_kept_turn_at_once(three: Turns) -> None:
    await three.ask("p1", "p2", "p3", "p4", urgent=False)
    three.urgent.add("p4")
    three.slots.promote()
    await settle()
    assert three.had == ["p1", "p2", "p4"]


async def test_who_is_cancelled_in_line_is_passed_over(one: Turns) -> None:
    await one.ask("a", "b", "c")
    await one.cancel("b")
    await one.end("a")
    assert one.had == ["a", "c"]


async def test_who_is_cancelled_just_as_its_turn_comes_hands_it_on(one: Turns) -> None:
    await one.ask("a", "b", "c")
    one._ends["a"].set()
    await asyncio.sleep(0)  # a has given back, and b was admitted but has not run
    one._tasks["b"].cancel()
    await settle()
    assert one.had == ["a", "c"]


async def test_who_is_being_cancelled_is_not_given_a_turn(one: Turns) -> None:
    await one.ask("a", "b", "c")
    one._tasks["b"].cancel()
    one._ends["a"].set()  # both happen before either task runs again
    await settle()
    assert one.had == ["a", "c"]


async def test_more_turns_are_had_at_once_and_fewer_when_they_come_back(three: Turns) -> None:
    await three.ask("a", "b", "c", "d", "e")
    assert three.had == ["a", "b", "c"]
    three.slots.resize(4)
    await settle()
    assert three.had == ["a", "b", "c", "d"]
    three.slots.resize(1)
    for name in "abc":
        await three.end(name)
    assert three.had == ["a", "b", "c", "d"], "one has the only turn"
    await three.end("d")
    assert three.had == ["a", "b", "c", "d", "e"]


async def test_one_turn_is_for_prefetches_too_and_of_two_one_is_not(one: Turns) -> None:
    await one.ask("a", urgent=False)
    await one.ask("b", urgent=False)
    assert one.had == ["a"]
    one.slots.resize(2)
    await settle()
    assert one.had == ["a"], "the last free turn of several is for clients"


async def test_one_users_thousand_fetches_delay_another_users_single_one_by_one_turn(one: Turns) -> None:
    await one.ask(*(f"a{number}" for number in range(1000)), user=7)
    await one.ask("b", user=8)
    assert one.slots.waiting == 1000
    await one.end("a0")
    assert one.had == ["a0", "b"]
    await one.end("b")
    assert one.had == ["a0", "b", "a1"]


async def test_users_take_turns_whoever_asked_first(one: Turns) -> None:
    await one.ask("running", user=6)
    await one.ask("a1", "a2", "a3", user=7)
    await one.ask("b1", "b2", user=8)
    await one.ask("c1", user=9)
    for name in ("running", "a1", "b1", "c1", "a2", "b2"):
        await one.end(name)
    assert one.had == ["running", "a1", "b1", "c1", "a2", "b2", "a3"]


async def test_a_users_prefetches_come_after_everybodys_fetches(one: Turns) -> None:
    await one.ask("a1", "a2", user=7)
    await one.ask("b1", user=8, urgent=False)
    await one.end("a1")
    assert one.had == ["a1", "a2"]


async def test_a_fetch_that_several_wait_for_comes_when_the_first_of_them_would(one: Turns) -> None:
    await one.ask("a1", "a2", "a3", user=7)
    await one.ask("b1", user=8)
    one.users["a3"].add(9)
    await one.end("a1")
    assert one.had == ["a1", "a3"]
    await one.end("a3")
    assert one.had == ["a1", "a3", "b1"], "it was 9's turn, and none of 8's"


async def test_the_last_free_turn_is_for_a_user_who_has_none(three: Turns) -> None:
    await three.ask("a1", "a2", "a3", user=7)
    assert three.had == ["a1", "a2"]
    await three.ask("b1", "b2", user=8)
    assert three.had == ["a1", "a2", "b1"]
    await three.end("b1")
    assert three.had == ["a1", "a2", "b1", "b2"]
    await three.end("b2")
    assert three.had == ["a1", "a2", "b1", "b2"], "it is free again, and kept"
    three.users["a3"].add(9)
    three.slots.promote()
    await settle()
    assert three.had[-1] == "a3"


async def test_administrators_and_the_daemon_itself_may_have_every_turn(three: Turns) -> None:
    await three.ask("d1", "d2", "d3")
    assert three.had == ["d1", "d2", "d3"]


async def test_who_gives_a_turn_back_waits_behind_those_who_wait(one: Turns) -> None:
    one.pauses["a"] = asyncio.Event()
    await one.ask("a", "b")
    one.pauses["a"].set()
    await settle()
    assert one.had == ["a", "b"]
    await one.end("b")
    assert one.had == ["a", "b", "a again"]
    await one.end("a")


async def test_who_is_cancelled_while_it_waits_for_its_turn_again_has_none(one: Turns) -> None:
    one.pauses["a"] = asyncio.Event()
    await one.ask("a", "b")
    one.pauses["a"].set()
    await settle()
    await one.cancel("a")
    await one.end("b")
    await one.ask("c")
    assert one.had == ["a", "b", "c"]

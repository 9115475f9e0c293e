"""Events and who watches them: in their order, to whom may know, and never at the cost of what happens."""

from __future__ import annotations

import asyncio

import pytest

from hubclient.contract.errors import TooBusy
from hubd import events
from hubd.events import Event, Events, Watcher

ALICE, BOB = 1001, 1002


async def names(watcher: Watcher) -> list[str]:
    """What there is to read, up to the end."""
    async with asyncio.timeout(5):
        return [event.name for event in [one async for one in watcher]]


async def test_events_come_in_their_order_until_the_daemon_ends() -> None:
    happening = Events()
    happening.publish(Event("before"))
    with happening.watching(None) as watcher:
        for number in range(3):
            happening.publish(Event(f"{number}"))
        await asyncio.sleep(0)
        happening.close()
        assert await names(watcher) == ["0", "1", "2"]
    with happening.watching(None) as late:
        assert await names(late) == []


async def test_who_is_dismissed_may_watch_again() -> None:
    happening = Events()
    with happening.watching(ALICE) as watcher:
        happening.dismiss()
        assert await names(watcher) == []
    with happening.watching(ALICE) as again:
        happening.publish(Event("later"))
        assert (await anext(again)).name == "later"


async def test_a_watcher_waits_for_what_is_published_in_another_thread() -> None:
    happening = Events()
    with happening.watching(None) as watcher:
        first = asyncio.create_task(anext(watcher))
        await asyncio.sleep(0)
        await asyncio.to_thread(happening.publish, Event("late"))
        async with asyncio.timeout(5):
            assert (await first).name == "late"


async def test_who_is_dismissed_may_watch_anew() -> None:
    happening = Events()
    with happening.watching(ALICE) as before:
        happening.publish(Event("early"))
        await asyncio.sleep(0)
        happening.dismiss()
        assert await names(before) == ["early"]
        with happening.watching(ALICE) as after:
            happening.publish(Event("late"))
            await asyncio.sleep(0)
            happening.close()
            assert await names(after) == ["late"]


async def test_a_user_is_told_of_what_it_may_know_and_an_administrator_of_all() -> None:
    happening = Events()
    with happening.watching(ALICE) as hers, happening.watching(BOB) as his, happening.watching(None) as all_of_it:
        happening.publish(Event("hers", is_for=lambda uid: uid == ALICE))
        happening.publish(Event("everyones"))
        await asyncio.sleep(0)
        happening.close()
        assert await names(hers) == ["hers", "everyones"]
        assert await names(his) == ["everyones"]
        assert await names(all_of_it) == ["hers", "everyones"]


async def test_who_reads_too_slowly_loses_events_and_is_told_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MAX_PENDING", 2)
    happening = Events()
    with happening.watching(None) as watcher:
        for number in range(5):
            happening.publish(Event(f"{number}"))
        await asyncio.sleep(0)
        assert (await anext(watcher)).name == "0"
        happening.publish(Event("5"))  # there is room again, but not before the gap is told
        await asyncio.sleep(0)
        assert (await anext(watcher)).name == "1"
        gap = await anext(watcher)
        assert (gap.name, gap.fields) == ("lost", {"events": 4})
        happening.publish(Event("6"))
        assert (await anext(watcher)).name == "6"


async def test_watchers_are_limited_in_all_and_for_each_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MAX_WATCHERS", 2)
    monkeypatch.setattr(events, "MAX_WATCHERS_PER_USER", 1)
    happening = Events()
    with happening.watching(ALICE):
        with pytest.raises(TooBusy), happening.watching(ALICE):
            pass
        with happening.watching(BOB), pytest.raises(TooBusy), happening.watching(None):
            pass
    with happening.watching(ALICE):
        pass

"""One run per key, however many want what it gives."""

from __future__ import annotations

import asyncio

import pytest

from hubclient.contract.errors import DiskFull, Internal, NotAModule
from hubd.publishing.once import Once


class Work:
    """Counts its runs; each waits until it may end."""

    def __init__(self, error: Exception | None = None) -> None:
        self.runs = 0
        self.may_end = asyncio.Event()
        self._error = error

    async def make(self) -> str:
        self.runs += 1
        await self.may_end.wait()
        if self._error is not None:
            raise self._error
        return f"made {self.runs}"


async def test_all_get_what_one_run_gave() -> None:
    async with asyncio.TaskGroup() as group:
        once, work = Once[str](group.create_task, 0), Work()
        waiting = [asyncio.ensure_future(once.get("k", work.make)) for _ in range(3)]
        await asyncio.sleep(0)
        assert once.made("k") is None
        work.may_end.set()
        assert await asyncio.gather(*waiting, once.get("k", work.make)) == ["made 1"] * 4
        assert (work.runs, once.made("k"), once.tasks) == (1, "made 1", set())
        once.keep_only({"k"})
        assert once.made("k") == "made 1"
        once.keep_only({"other"})
        assert once.made("k") is None


async def test_who_leaves_takes_nothing_along() -> None:
    async with asyncio.TaskGroup() as group:
        once, work = Once[str](group.create_task, 0), Work()
        leaving = asyncio.ensure_future(once.get("k", work.make))
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait({leaving})
        work.may_end.set()
        assert await once.get("k", work.make) == "made 1"


@pytest.mark.parametrize(
    ("error", "retry_seconds", "runs"),
    [(DiskFull("x"), 1000, 1), (DiskFull("x"), -1, 2), (NotAModule("x"), -1, 1)],
)
async def test_a_failure_is_kept_as_long_as_it_may_hold(
    error: DiskFull | NotAModule, retry_seconds: float, runs: int
) -> None:
    async with asyncio.TaskGroup() as group:
        once, work = Once[str](group.create_task, retry_seconds), Work(error)
        work.may_end.set()
        for _ in range(2):
            with pytest.raises(type(error), match="x"):
                await once.get("k", work.make)
        assert work.runs == runs
        assert (once.failure("k") is None) is error.retryable


async def test_a_fault_of_our_own_is_told_and_ends_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    async with asyncio.TaskGroup() as group:
        once, work = Once[str](group.create_task, 0), Work(ZeroDivisionError("surprise"))
        work.may_end.set()
        with pytest.raises(Internal):
            await once.get("k", work.make)
    assert "surprise" in caplog.text


async def test_work_that_is_cancelled_is_over_for_who_waits() -> None:
    async with asyncio.TaskGroup() as group:
        once, work = Once[str](group.create_task, 0), Work()
        waiting = asyncio.ensure_future(once.get("k", work.make))
        await asyncio.sleep(0)
        for task in once.tasks:
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

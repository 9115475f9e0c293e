"""When the directory of prefetch files is looked at again: at events, and without them too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import watchfiles

from hubd.prefetching import changes as module
from hubd.prefetching.changes import changes


async def _one(events: AsyncGenerator[None]) -> bool:
    """Whether there is one more before it ends."""
    async with asyncio.timeout(20):
        return await anext(events, "over") != "over"


async def test_a_change_is_told_as_soon_as_it_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOOK_SECONDS", 600.0)
    async with aclosing(changes(str(tmp_path))) as events:
        told = asyncio.ensure_future(_one(events))
        await asyncio.sleep(0)  # it watches from its first step on
        (tmp_path / ".a.toml").write_text("")
        (tmp_path / ".a.toml").rename(tmp_path / "a.toml")
        assert await told


async def test_another_directory_in_its_place_is_watched_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.1)
    directory = tmp_path / "prefetch.d"
    directory.mkdir()
    async with aclosing(changes(str(directory))) as events:
        assert await _one(events)
        directory.rename(tmp_path / "old")
        directory.mkdir()
        while await _one(events):
            pass


@pytest.mark.parametrize("name", [None, "/nowhere/at/all"])
async def test_a_directory_that_is_not_there_is_looked_for(name: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.1)
    async with aclosing(changes(name)) as events:
        assert [await _one(events), await _one(events)] == [True, False]


@pytest.mark.parametrize("error", [OSError("OS file watch limit reached"), RuntimeError("error in the watcher")])
async def test_without_a_watch_it_is_looked_at_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def none_left(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.1)
    monkeypatch.setattr(watchfiles, "awatch", none_left)
    async with aclosing(changes(str(tmp_path))) as events:
        assert [await _one(events), await _one(events)] == [True, False]

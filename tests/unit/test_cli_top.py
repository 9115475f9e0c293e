"""`hubctl top`: what a frame of its screen shows."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from hubclient.cli.snapshot import Rates, Snapshot
from hubclient.cli.top_screen import Frame, plain
from tests.support.api_answers import fetch, full_cache, status, user

NOW = datetime(2026, 3, 1, 12, 0, 5, tzinfo=UTC)


def frame(fetches: list[dict[str, Any]], *, problem: str | None = None, **changes: Any) -> Frame:
    answer = status(cache=full_cache(), **changes)
    return Frame(Snapshot(answer, fetches, 1.0), Rates(2.0, 12.5, 21_300_000.0, 0.75), problem, NOW)


def screen(shown: Frame, width: int = 100, height: int = 24) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=width, height=height, force_terminal=True, color_system=None).print(shown)
    return file.getvalue().splitlines()


def test_it_shows_health_the_cache_rates_and_each_fetch_with_its_users() -> None:
    lines = screen(frame([fetch("a", users=[54001]), fetch("b", state="queued", users=[54002])]))
    text = "\n".join(lines)
    assert lines[0].startswith("hubd 0.1.0 is well")
    assert lines[0].endswith("up 2 min 5 s   12:00:05")
    assert "━" in lines[1]
    for said in (
        " 70%  3.5 GB, 12 modules, 120.0 GB free",
        "12.5 answers/s, 75.0% cached; 21.3 MB/s received; 98.7% cached since the start",
    ):
        assert said in text
    assert any("h.example/a/1" in line and " 50%" in line and line.endswith("54001") for line in lines)
    assert any("h.example/b/1" in line and "queued" in line and line.endswith("54002") for line in lines)


@pytest.mark.parametrize(("width", "height"), [(200, 60), (80, 24), (40, 12), (20, 5), (3, 2)])
def test_a_frame_fits_its_screen(width: int, height: int) -> None:
    many = [fetch(f"{number}" + "x" * 50, users=[54001, 54002]) for number in range(100)]
    users = [user(54000 + number) for number in range(20)]
    lines = screen(frame(many, warnings=["w" * 300] * 9, users=users), width, height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    if height >= 12:
        assert any("more fetches" in line for line in lines)


def test_what_is_old_is_said_to_be() -> None:
    first = screen(frame([], problem="nobody there\x1b"))[0]
    assert first.startswith("no answer, what follows is old: nobody there\\x1b  ")
    assert first.endswith("12:00:05")


def test_in_a_pipe_a_look_is_a_few_whole_lines() -> None:
    assert plain(frame([fetch(users=[54001])], warnings=["w"], queue=3, users=[user(54001)])) == [
        "2026-03-01 12:00:05  hubd 0.1.0 works, with 1 thing to mend",
        "  ! w",
        "  12.5 answers/s, 75.0% cached; 21.3 MB/s received; 98.7% cached since the start",
        "  1 fetch at 1.0 MB/s, 3 queued, 2 waiters, 3 connections",
        "  users    54001: 0 fetches, 0 of 0 answers from the cache",
        "  transferring  https://h.example/m/1, 50% of 10.0 MB, 1.0 MB/s, 5 s left, 2 waiters for 54001",
    ]

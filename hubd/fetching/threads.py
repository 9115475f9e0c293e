"""Blocking work in threads that a cancellation does not leave behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

T = TypeVar("T")


async def to_its_end(threads: Executor, function: Callable[[], T], hurry: Callable[[], object] | None = None) -> T:
    """Runs it in a thread; a cancellation waits until it is done, which `hurry` may bring about."""
    running = asyncio.get_running_loop().run_in_executor(threads, function)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        if hurry is not None:
            hurry()
        while not running.done():
            try:
                await asyncio.wait({running})
            except asyncio.CancelledError:
                continue
        if not running.cancelled():
            running.exception()  # nobody is left to tell it to
        raise

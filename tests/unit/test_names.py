"""Looking up names: as the system does, and without holding up anything else."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest

from hubd.network.names import Names

LOCAL: list[tuple[Any, ...]] = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80))]


class Hanging:
    """A resolver whose name servers do not answer before `answered` is set."""

    def __init__(self) -> None:
        self.answered = threading.Event()
        self.asked: list[str] = []

    def __call__(self, host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        self.asked.append(host)
        assert self.answered.wait(20)
        return LOCAL


async def test_names_are_looked_up_as_the_system_does() -> None:
    names = Names()
    (first, *_) = await names.resolve("localhost", 80, socket.AF_INET)
    assert (first["hostname"], first["host"], first["port"], first["family"]) == (
        "localhost",
        "127.0.0.1",
        80,
        socket.AF_INET,
    )
    with pytest.raises(socket.gaierror):
        await names.resolve("no-such-host.invalid", 80)
    await names.close()


async def test_name_servers_that_do_not_answer_keep_no_other_work_waiting() -> None:
    look_up = Hanging()
    names = Names(look_up)
    waiting = [asyncio.ensure_future(names.resolve(f"{number}.example.com")) for number in range(50)]
    async with asyncio.timeout(10):
        while len(look_up.asked) < 50:
            await asyncio.sleep(0.01)
        assert await asyncio.to_thread(lambda: "done") == "done"
        look_up.answered.set()
        await asyncio.gather(*waiting)
        await names.close()


async def test_a_name_is_looked_up_once_at_a_time_whoever_gives_up_meanwhile() -> None:
    look_up = Hanging()
    names = Names(look_up)
    for _ in range(100):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await names.resolve("example.com", 443)
    staying = asyncio.ensure_future(names.resolve("example.com", 443))
    await asyncio.sleep(0)
    look_up.answered.set()
    async with asyncio.timeout(10):
        assert (await staying)[0]["host"] == "127.0.0.1"
        assert look_up.asked == ["example.com"]
        await names.resolve("example.com", 443)
        await names.close()
    assert look_up.asked == ["example.com"] * 2

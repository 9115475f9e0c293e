"""A long work told line by line: no silence, an end in good order, and nothing left behind when the client leaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from hubclient.contract.errors import CacheFull
from hubd.api import messages, routes


class Work:
    """Tells one event at each opening of `gate`; an end, or a failure, comes last."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.gate = asyncio.Semaphore(0)
        self.ended = asyncio.Event()
        self._failure = failure

    async def told(self) -> AsyncGenerator[messages.Answer]:
        try:
            await self.gate.acquire()
            yield messages.WaitingEvent()
            await self.gate.acquire()
            if self._failure is not None:
                raise self._failure
        finally:
            self.ended.set()


def server(work: Work) -> TestServer:
    async def handler(request: web.Request) -> web.StreamResponse:
        return await routes.events(request, work.told())

    app = web.Application()
    app.router.add_get("/", handler)
    return TestServer(app, handler_cancellation=True)


async def test_while_there_is_nothing_to_tell_a_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "_WAITING_SECONDS", 0.01)
    work = Work()
    async with server(work) as running, ClientSession() as client, client.get(running.make_url("/")) as answer:
        assert json.loads(await answer.content.readline()) == {"event": "waiting"}
        work.gate.release()
        work.gate.release()
        async for line in answer.content:
            assert json.loads(line) == {"event": "waiting"}
    assert work.ended.is_set()


async def test_a_failure_is_the_last_line() -> None:
    work = Work(CacheFull("no room"))
    async with server(work) as running, ClientSession() as client, client.get(running.make_url("/")) as answer:
        work.gate.release()
        work.gate.release()
        lines = [json.loads(line) async for line in answer.content]
    assert lines[0] == {"event": "waiting"}
    assert (lines[-1]["event"], lines[-1]["problem"]["code"]) == ("failed", "cache-full")
    assert len(lines) == 2


async def test_a_client_that_leaves_ends_the_work() -> None:
    work = Work()
    async with server(work) as running, ClientSession() as client:
        async with client.get(running.make_url("/")) as answer:
            work.gate.release()
            await answer.content.readline()
            answer.close()
        async with asyncio.timeout(5):
            await work.ended.wait()

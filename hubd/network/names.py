"""The system's resolver, in threads of its own.

Law: a name server that does not answer keeps waiting whoever asks for its names, and nobody else: no thread of the
daemon's other work, and one thread for a name, however often it is asked for meanwhile.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

_MOST_THREADS = 64
_Question = tuple[str, int, socket.AddressFamily]
_Info = tuple[Any, ...]


class Names(AbstractResolver):
    """getaddrinfo(3), with what the machine's administrator has set for it (nsswitch, hosts, search domains)."""

    def __init__(self, look_up: Callable[..., list[_Info]] | None = None) -> None:
        self._look_up = look_up or socket.getaddrinfo
        self._threads = ThreadPoolExecutor(_MOST_THREADS, "names")
        self._asked: dict[_Question, asyncio.Future[list[_Info]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Raises `OSError`. Who no longer waits does not end the lookup, which cannot be ended."""
        question = host, port, family
        if (answer := self._asked.get(question)) is None:
            ask = partial(self._look_up, host, port, type=socket.SOCK_STREAM, family=family, flags=socket.AI_ADDRCONFIG)
            answer = asyncio.get_running_loop().run_in_executor(self._threads, ask)
            self._asked[question] = answer
            answer.add_done_callback(lambda done: self._answered(question, done))
        return [
            ResolveResult(
                hostname=host,
                host=address[0],
                port=address[1],
                family=found,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for found, _, protocol, _, address in await asyncio.shield(answer)
        ]

    async def close(self) -> None:
        """Waits for the lookups under way, as long as they take."""
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)

    def _answered(self, question: _Question, answer: asyncio.Future[list[_Info]]) -> None:
        del self._asked[question]
        if not answer.cancelled():
            answer.exception()  # nobody may be left to tell it to

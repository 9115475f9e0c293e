"""When a daemon ends: told by a signal, needed by nobody for long, or without its socket or its terminal.

Law: the first reason is the one that is told, and none of them ends anything by itself: whoever waits for it does.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable

from hubd.api.listening import ListeningSocket
from hubd.api.server import ApiServer
from hubd.fetching.means import Means
from hubd.fetching.resolver import Resolver

_WATCH_SECONDS = 2.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Ending:
    """For one daemon, on the event loop that serves."""

    def __init__(self, means: Means, resolver: Resolver, server: ApiServer, listening: ListeningSocket) -> None:
        self._means = means
        self._resolver = resolver
        self._server = server
        self._listening = listening
        self._has_terminal = has_terminal()
        self._reason: str | None = None
        self._due = asyncio.Event()

    async def wait(self) -> str:
        """The reason, when it is time."""
        await self._due.wait()
        assert self._reason is not None
        return self._reason

    def heed_signals(self, reload: Callable[[], None]) -> None:
        """From now on. SIGHUP means `reload`, but where it comes from the end of the daemon's terminal."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._end, signal.Signals(number).name)
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup, reload)

    def ignore_signals(self) -> None:
        """Who is impatient asks again; there is nothing left to stop."""
        for number in (*_SIGNALS, signal.SIGHUP):
            asyncio.get_running_loop().remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)

    async def watch(self) -> None:
        """Looks now and then whether the daemon is needed, and can be found. Never ends by itself."""
        busy_at, activity = time.monotonic(), self._server.activity()
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            idle_exit = self._means.settings.api.idle_exit
            if not self._listening.is_ours():
                self._end(f"{self._listening.path} is not ours any more")
            if self._is_at_work() or self._server.activity() != activity:
                busy_at, activity = time.monotonic(), self._server.activity()
            elif idle_exit is not None and time.monotonic() - busy_at >= idle_exit:
                self._end(f"idle for {idle_exit:.0f} s")

    def _is_at_work(self) -> bool:
        fleet = self._means.fleet
        is_uploading = fleet is not None and fleet.uploads.under_way() != []
        return bool(self._server.connections() or self._resolver.fetches()) or is_uploading

    def _end(self, reason: str) -> None:
        self._reason = self._reason or reason
        self._due.set()

    def _on_hangup(self, reload: Callable[[], None]) -> None:
        if self._has_terminal and not has_terminal():
            self._end("the terminal is gone")
        else:
            reload()


def has_terminal() -> bool:
    """Whether somebody sits at a terminal of this process."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC | os.O_NONBLOCK))
    except OSError:
        return False
    return True

"""`hubctl top`: what the daemon does, while it does it.

Law: a daemon that goes away does not end it, since that is when one looks; and the terminal is given back as it was.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from hubclient.cli.output import complain, emit
from hubclient.cli.snapshot import Snapshot, rates, reach_running, take
from hubclient.cli.tables import drawable
from hubclient.contract.errors import HubError

if TYPE_CHECKING:
    from hubclient.cli.keys import Keys
    from hubclient.cli.top_screen import Frame
    from hubclient.daemon import Daemon

_FIRST_SECONDS = 0.5  # rates take two looks; the first ones come early


def top(environ: Mapping[str, str], *, interval_seconds: float, once: bool, as_json: bool) -> None:
    """Show the daemon at work until somebody ends it; `once`: one look. Raises `DaemonUnreachable` at the first."""
    watch = _Watch(reach_running(environ))
    if not once and not as_json and drawable():
        _screens(watch, interval_seconds)
        return
    while True:
        _print(watch, as_json=as_json)
        if once:
            return
        time.sleep(interval_seconds)
        watch.look(as_json=as_json)


class _Watch:
    """The last look at a daemon, and the rates since the one before."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._snapshot = take(daemon)
        self._before: Snapshot | None = None
        self._problem: str | None = None

    def look(self, *, as_json: bool = False, aloud: bool = True) -> None:
        """Look again; of a daemon that does not answer the last look stays, with the problem."""
        try:
            snapshot = take(self._daemon)
        except HubError as error:
            self._problem = error.detail
            if aloud:
                complain(error, as_json=as_json)
            return
        self._before, self._snapshot, self._problem = self._snapshot, snapshot, None

    @property
    def is_old(self) -> bool:
        """Whether the daemon has not answered since."""
        return self._problem is not None

    def frame(self) -> Frame:
        from hubclient.cli.top_screen import Frame

        since = None if self._before is None else rates(self._before, self._snapshot)
        return Frame(self._snapshot, since, self._problem, datetime.now().astimezone())

    def document(self) -> dict[str, Any]:
        frame = self.frame()
        told = None if frame.rates is None else frame.rates._asdict()
        moment = frame.at.isoformat(timespec="milliseconds")
        return {"at": moment, "status": frame.snapshot.status, "fetches": frame.snapshot.fetches, "rates": told}


def _print(watch: _Watch, *, as_json: bool) -> None:
    if watch.is_old:
        return  # the complaint has said so
    if as_json:
        import json

        emit(json.dumps(watch.document()))
        return
    from hubclient.cli.top_screen import plain

    emit("".join(line + "\n" for line in plain(watch.frame())))


def _screens(watch: _Watch, interval_seconds: float) -> None:
    from hubclient.cli.keys import keys, stop_here

    while True:
        with keys() as heard:
            is_over = _screen(watch, heard, interval_seconds)
        if is_over:
            return
        stop_here()


def _screen(watch: _Watch, heard: Keys, interval_seconds: float) -> bool:
    """Draw until somebody quits (True) or stops it for a while (False)."""
    from rich.console import Console
    from rich.live import Live

    console = Console(file=sys.stdout, highlight=False)
    with Live(watch.frame(), console=console, screen=True, auto_refresh=False, redirect_stdout=False) as live:
        live.refresh()
        due = time.monotonic() + min(interval_seconds, _FIRST_SECONDS)
        while True:
            key = heard.wait(due - time.monotonic())
            if key == "stopped":
                return False
            if key is not None and key[0] in "qQ\x04":
                return True
            if key == " " or time.monotonic() >= due:
                watch.look(aloud=False)
                due = time.monotonic() + interval_seconds
            live.update(watch.frame(), refresh=True)

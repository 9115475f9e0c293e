"""Reaching a daemon that may be away or stopped, without leaving the user to wonder.

Law: who waits is told for whom and for how long, once.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping

from hubclient import finding
from hubclient.cli.output import say
from hubclient.daemon import Daemon, reach
from hubclient.exchange import SILENCE_SECONDS

SILENT_SECONDS = 1.0


def reach_aloud(environ: Mapping[str, str] = os.environ, *, quiet: bool) -> Daemon:
    """As `hubclient.daemon.reach`; after `SILENT_SECONDS` it says on stderr what it waits for, unless `quiet`.

    So does the daemon that it gives, when one that takes requests answers none.
    """
    place, timeout_seconds = finding.find(environ), finding.timeout_seconds(environ)
    # One's own daemon is started, which has a limit of its own.
    limit = "" if place.kind == "user" else f" (up to {timeout_seconds:g} s)"
    telling = threading.Timer(SILENT_SECONDS, say, [f"waiting for the daemon at {place.socket}{limit}"])
    telling.daemon = True
    untold = threading.Lock()  # several threads may wait for answers

    def silent(seconds: float) -> None:
        if untold.acquire(blocking=False):
            say(
                f"the daemon at {place.socket} has said nothing for {seconds:.0f} s; waiting for it "
                f"(up to {SILENCE_SECONDS:.0f} s)"
            )

    if not quiet:
        telling.start()
    try:
        return reach(environ, silent=None if quiet else silent)
    finally:
        telling.cancel()

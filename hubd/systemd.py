"""What a service manager and its service tell each other: a socket that is passed on, readiness, signs of life.

Law: it all goes by systemd's variables in the environment, and means nothing where they are not set or are meant for
another process. Sources: sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3).
"""

from __future__ import annotations

import os
import socket

_FIRST_FD = 3  # SD_LISTEN_FDS_START


class Unusable(Exception):
    """What the service manager passed on cannot be used; the text says why and what to do."""


def listening_socket() -> socket.socket | None:
    """The one socket that was passed to this process; None when none was.

    It is the caller's from now on: a second call finds none, and neither does a child. Raises `Unusable` when there are
    several, or something that is no socket.
    """
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdecimal() or count == "0":
        return None
    if count != "1":
        raise Unusable(f"{count} sockets were passed on, and hubd serves one: leave one ListenStream= in hubd.socket")
    try:
        passed = socket.socket(fileno=_FIRST_FD)
    except OSError as error:
        raise Unusable(f"what was passed on as a socket is none: {error.strerror}") from error
    passed.set_inheritable(False)
    return passed

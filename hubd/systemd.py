"""What a service manager and its service tell each other: a socket that is passed on, readiness, signs of life.

Law: it all goes by systemd's variables in the environment, and means nothing where they are not set or are meant for
another process. Sources: sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3).
"""

from __future__ import annotations

import logging
import os
import socket

log = logging.getLogger(__name__)

_FIRST_FD = 3  # SD_LISTEN_FDS_START
_NOTIFY_SECONDS = 1.0


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


def notify(*assignments: str) -> None:
    """Tells the service manager, such as ``notify("READY=1", "STATUS=serving")``; does nothing where none listens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as teller:
        teller.settimeout(_NOTIFY_SECONDS)
        try:
            teller.sendto("\n".join(assignments).encode(), "\0" + address[1:] if address[0] == "@" else address)
        except OSError as error:
            # What was not told is not worth an end: whoever counts on it will ask, or end this process.
            log.warning("the service manager does not hear this daemon: %s", error)


def watchdog_seconds() -> float | None:
    """Within which time the service manager wants a sign of life, again and again; None when it wants none."""
    pid, microseconds = os.environ.get("WATCHDOG_PID", ""), os.environ.get("WATCHDOG_USEC", "")
    if pid not in ("", str(os.getpid())) or not microseconds.isdecimal() or int(microseconds) == 0:
        return None
    return int(microseconds) / 1e6

"""Starting the per-user daemon, so that there is nothing to set up to try hubd.

Law: of any number of clients that find no daemon at once, one starts it and the others wait for it; and whoever
cannot start it is told why and what to do.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from hubclient.connecting import connect_to_users
from hubclient.contract import places
from hubclient.contract.errors import DaemonUnreachable
from hubclient.contract.layout import CacheLayout
from hubclient.contract.lease import Lease
from hubclient.finding import ROOT_UID, Place

_OURS_ALONE = ("PYTHONPATH", "LD_", "HUBD_OFFLINE", "HUBD_LOCK", "KAGGLE_")  # beginnings of variables
_START_SECONDS = 30.0
_PAUSE_SECONDS = 0.02
_MAX_LOG_BYTES = 10_000_000
_TAIL_BYTES = 4096
_TAIL_LINES = 3
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW

# Run by a small interpreter that ends at once, so that the daemon is nobody's child: the program that needed it
# first need not reap it when it ends, and does not find it among its own children.
_LAUNCHER = """
import os, signal, sys
if pid := os.fork():
    print(pid)
else:
    # What a program ignores or blocks, its children would inherit, and the daemon must hear of its own children.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    os.dup2(2, 1)
    os.execv(sys.argv[1], sys.argv[1:])
"""


def remedy(place: Place) -> str:
    """What to do about a daemon that does not answer, as the end of a sentence."""
    if place.kind == "service":
        return "; it is the machine's service: see `systemctl status hubd`, or set HUBD_AUTOSTART=1 to use your own"
    if place.kind == "explicit":
        return "; HUBD_SOCKET names that socket: start its daemon, or unset HUBD_SOCKET"
    return ""


def why_silent(place: Place) -> str:
    """What it may mean that a daemon takes connections and says nothing, and how to find out."""
    if place.kind == "service":  # whose connections systemd takes, also while there is no daemon
        return "it starts, fails to start, or hangs; `systemctl status hubd` says which"
    return "it is stopped, or hangs; see its log, and restart it"


def start(place: Place, environ: Mapping[str, str]) -> socket.socket:
    """Start the per-user daemon of `place` and give a connection to it, as soon as it answers.

    If another client is just starting it, wait for that. Raises `DaemonUnreachable` where a daemon may not or
    cannot be started, with what to do, and when it ends at once, with the last lines that it wrote to its log;
    and what `connect_to_users` raises.
    """
    command = _command(place, environ)
    log = places.user_log(environ)
    starter = _Starter(command, log, place, environ)
    try:
        os.makedirs(os.path.dirname(log), mode=0o700, exist_ok=True)
        while True:
            with _turn(os.path.join(os.path.dirname(log), os.path.basename(place.socket) + ".start")) as ours:
                # Whoever had the turn before may have started it.
                connected = connect_to_users(place, environ) or (starter.connection() if ours else None)
            if connected is not None:
                return connected
            starter.pause()
    except BlockingIOError:
        raise
    except (OSError, subprocess.SubprocessError) as error:
        what = error.strerror or error if isinstance(error, OSError) else error
        raise DaemonUnreachable(
            f"cannot start a daemon: {getattr(error, 'filename', None) or log}: {what}; "
            "XDG_STATE_HOME names the directory for its log"
        ) from error


def _command(place: Place, environ: Mapping[str, str]) -> list[str]:
    """The daemon's command line. Raises `DaemonUnreachable` if none may be started, or could serve."""
    assert place.cache is not None
    absent = f"no daemon serves the cache {place.cache}"
    if environ.get("HUBD_AUTOSTART") == "0":
        raise DaemonUnreachable(
            f"{absent}, and HUBD_AUTOSTART=0 forbids to start one: unset it, or run `hubd run --user`"
        )
    home = environ.get("HOME") or os.path.expanduser("~")
    owner = _owner(home)
    if owner not in (None, ROOT_UID, os.geteuid()):
        raise DaemonUnreachable(
            f"{absent}, and none is started because HOME ({home}) belongs to uid {owner} and this is uid "
            f"{os.geteuid()}: use `sudo -H`, or start the daemon as the user whose it is to be"
        )
    if len(os.fsencode(place.socket)) > places.MAX_SOCKET_PATH_BYTES:
        raise DaemonUnreachable(
            f"{absent}, and none can be started because the path of its socket would be over "
            f"{places.MAX_SOCKET_PATH_BYTES} bytes long ({place.socket}): set XDG_RUNTIME_DIR to a private directory "
            "with a short path, or TFHUB_CACHE_DIR to a shorter one"
        )
    if sys.executable and importlib.util.find_spec("hubd") is not None:
        program = [sys.executable, "-P", "-m", "hubd"]
    elif found := shutil.which("hubd", path=environ.get("PATH")):
        program = [os.path.abspath(found)]
    else:
        raise DaemonUnreachable(f"{absent}, and hubd is not installed to start one: pip install tf-hubd")
    return [*program, "run", "--user", "--cache-dir", place.cache]


def _owner(path: str) -> int | None:
    try:
        return os.stat(path).st_uid
    except OSError:
        return None


@contextmanager
def _turn(path: str) -> Iterator[bool]:
    """Whether it is our turn to start the daemon, which holds until the block ends."""
    with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600), "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


class _Starter:
    """One client's try to have a daemon, with a deadline."""

    def __init__(self, command: list[str], log: str, place: Place, environ: Mapping[str, str]) -> None:
        self._command = command
        self._log = log
        self._place = place
        self._environ = environ
        self._deadline = time.monotonic() + _START_SECONDS

    def connection(self) -> socket.socket:
        """A connection to the daemon that this starts, or to another one that holds the cache."""
        while True:
            # One that holds the cache and does not answer is just starting, or just ending: its socket may have gone
            # with a logout. Either is over soon, and a second one could not have the cache before.
            while self._is_held():
                if (connected := self._connect()) is not None:
                    return connected
                self.pause()
            before_bytes, pid = self._launch()
            if (connected := self._wait(pid)) is not None:
                return connected
            if not self._is_held():
                raise DaemonUnreachable(
                    f"the daemon ended as soon as it was started: {_tail(self._log, before_bytes)} "
                    f"(its log is {self._log})"
                )

    def pause(self) -> None:
        if time.monotonic() > self._deadline:
            raise DaemonUnreachable(
                f"the daemon of {self._place.cache} does not answer, {_START_SECONDS:.0f} s after it was to start; "
                f"see its log, {self._log}"
            )
        time.sleep(random.uniform(0, 2 * _PAUSE_SECONDS))  # noqa: S311 (jitter)

    def _connect(self) -> socket.socket | None:
        return connect_to_users(self._place, self._environ)

    def _is_held(self) -> bool:
        assert self._place.cache is not None
        try:
            Lease.share(CacheLayout(self._place.cache).daemon_lock).release()
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def _launch(self) -> tuple[int, int]:
        """The size of the log before, and the daemon's pid."""
        if os.path.exists(self._log) and os.path.getsize(self._log) > _MAX_LOG_BYTES:
            os.replace(self._log, self._log + ".1")
        with open(os.open(self._log, _APPEND, 0o600), "ab") as file:
            return file.seek(0, os.SEEK_END), _detach(self._command, file.fileno(), self._environ)

    def _wait(self, pid: int) -> socket.socket | None:
        """A connection as soon as there is one; None when the process has ended without."""
        while True:
            ended = _has_ended(pid)
            if (connected := self._connect()) is not None or ended:
                return connected
            self.pause()


def _has_ended(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # After the name in parentheses: proc_pid_stat(5). A zombie stays where process 1 reaps nobody.
            return file.read().rpartition(b") ")[2][:1] in (b"Z", b"X")
    except (FileNotFoundError, ProcessLookupError):
        return True


def _detach(command: list[str], log_fd: int, environ: Mapping[str, str]) -> int:
    """Run a command for good, in a session of its own; its pid.

    What is for this program alone does not go along: the daemon serves all that come after it.
    """
    environment = {name: value for name, value in environ.items() if not name.startswith(_OURS_ALONE)}
    interpreter = sys.executable or shutil.which("python3", path=environ.get("PATH")) or ""
    program = shutil.which(command[0], path=environ.get("PATH")) or command[0]
    launched = subprocess.run(
        [interpreter, "-I", "-S", "-c", _LAUNCHER, program, *command[1:]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log_fd,
        cwd="/",
        env=environment,
        start_new_session=True,
        check=True,
        timeout=_START_SECONDS,
    )
    return int(launched.stdout)


def _tail(log: str, before_bytes: int) -> str:
    """The last lines that were written to the log since it had that many bytes."""
    with open(log, "rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(before_bytes, end - _TAIL_BYTES))
        lines = file.read(_TAIL_BYTES).decode(errors="replace").split("\n")
    return " / ".join([line.strip() for line in lines if line.strip()][-_TAIL_LINES:]) or "it said nothing"

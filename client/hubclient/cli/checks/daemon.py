"""The daemon: which one is meant, whether its socket is safe and open to this user, and what it says of itself."""

from __future__ import annotations

import importlib.util
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

from hubclient import __version__, starting
from hubclient.cli.checks import Finding, fail, ok, warn
from hubclient.cli.names import of_uid, of_uids
from hubclient.cli.snapshot import NotRunning, reach_running, take
from hubclient.cli.troubles import log, restart, troubles
from hubclient.cli.wording import standing
from hubclient.contract import places
from hubclient.contract.errors import AccessDenied, DaemonUnreachable, HubError
from hubclient.finding import Place

UNITS = ("hubd.socket", "hubd.service")
_PROPERTIES = ("Id", "LoadState", "ActiveState", "SubState", "UnitFileState", "NRestarts", "Result")
_SYSTEMCTL_SECONDS = 5.0
_RESTART = "`hubd check-config /etc/hubd/config.toml` says whether it could start; then `systemctl restart hubd`"
_WHY = {
    "explicit": "HUBD_SOCKET names its socket",
    "service": f"{places.SERVICE_DIR} is there",
    "user": "no service is installed, TFHUB_CACHE_DIR names another cache, or HUBD_AUTOSTART=1 and the service is away",
}


def check_socket(place: Place) -> Iterator[Finding]:
    """Whether this user can connect to the socket, and nobody else could have put another one there."""
    yield ok("daemon", f"{'your own' if place.kind == 'user' else 'that of ' + place.socket}: {_WHY[place.kind]}")
    if (length := len(os.fsencode(place.socket))) > places.MAX_SOCKET_PATH_BYTES:
        yield fail(
            "socket",
            f"its path is {length} bytes long, and {places.MAX_SOCKET_PATH_BYTES} are possible: {place.socket}",
            "set XDG_RUNTIME_DIR to a private directory with a short path",
        )
        return
    directory = os.path.dirname(place.socket)
    try:
        status = os.stat(directory)
    except OSError as error:
        if place.kind != "user":
            what = f"{directory}: {error.strerror}{starting.remedy(place)}"
            yield fail("socket", what, "in a container: mount that directory, read-only will do, at the same path")
        return
    owned = f"{directory} belongs to {of_uid(status.st_uid)}, mode {stat.S_IMODE(status.st_mode):04o}"
    if place.kind == "user" and not places.is_private(directory, (0, os.geteuid())):
        yield fail("socket", f"{owned}, and must be yours alone", f"`chmod 0700 {directory}`, or remove it")
    elif status.st_mode & 0o022 and status.st_mode & stat.S_ISVTX:
        what = f"{owned}: while no daemon listens there, anybody can in its place"
        yield warn("socket", what, "give the socket a directory of its own: [api] socket, and HUBD_SOCKET")
    elif status.st_mode & 0o022:
        what = f"{owned}: others can put another socket there, and be taken for the daemon"
        yield fail("socket", what, f"`chmod go-w {directory}`")
    else:
        yield ok("socket", f"{place.socket}; {owned}")
    try:
        mode = os.stat(place.socket).st_mode
    except OSError:
        return  # that nobody listens comes up when the daemon is asked
    if not stat.S_ISSOCK(mode):
        yield fail("socket", f"{place.socket} is no socket", "remove it, and restart the daemon")
    elif not os.access(place.socket, os.W_OK):
        yield fail(
            "socket",
            f"you ({of_uids([os.geteuid()])}) may not connect to {place.socket}, mode {stat.S_IMODE(mode):04o}",
            "the service's socket has mode 0666: `systemctl restart hubd.socket`; one's own daemon is one's own",
        )


def ask(environ: Mapping[str, str]) -> tuple[dict[str, Any] | None, HubError | None]:
    """The daemon's status, or why there is none."""
    try:
        with reach_running(environ) as daemon:
            return take(daemon).status, None
    except HubError as error:
        return None, error


def check_answer(place: Place, status: dict[str, Any] | None, error: HubError | None) -> Iterator[Finding]:
    """What the daemon said, or what it means that it did not."""
    if status is not None:
        yield from _of_status(status)
    elif isinstance(error, AccessDenied):
        yield fail("answer", error.detail, "ask an administrator: the settings of [access] say who may ask")
    elif isinstance(error, NotRunning):
        yield from _to_be_started()
    elif isinstance(error, DaemonUnreachable):
        remedy = _RESTART if place.kind == "service" else "start it, or restart it if it hangs"
        yield fail("answer", error.detail, remedy)
    elif error is not None:
        yield fail("answer", error.detail)


def check_units(directory: str = places.SERVICE_DIR) -> Iterator[Finding]:
    """What systemd knows of the service, where one is meant to be."""
    if not os.path.isdir(directory) or shutil.which("systemctl") is None:
        return
    try:
        shown = subprocess.run(
            ["systemctl", "show", "--no-pager", f"--property={','.join(_PROPERTIES)}", *UNITS],
            capture_output=True,
            text=True,
            timeout=_SYSTEMCTL_SECONDS,
        )
    except (OSError, subprocess.SubprocessError) as error:
        yield warn("units", f"systemd does not answer: {error}")
        return
    if shown.returncode == 0:  # else no systemd runs here, as in a container: the service is somebody else's
        yield from judge_units(shown.stdout)


def judge_units(shown: str) -> Iterator[Finding]:
    """What `systemctl show` printed of the socket and the service."""
    for block in shown.strip().split("\n\n"):
        unit = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        name, active = unit.get("Id", "?"), unit.get("ActiveState", "?")
        told = f"{name} is {active} ({unit.get('SubState', '?')})"
        if unit.get("LoadState") == "not-found":
            yield warn("units", f"{name} is not installed", "`hubd install --system`")
        elif active == "failed" or (name.endswith(".socket") and active != "active"):
            why = f": {unit['Result']}" if unit.get("Result", "success") != "success" else ""
            yield fail("units", told + why, f"`journalctl -u {name}` says why; then `systemctl restart {name}`")
        elif (restarts := unit.get("NRestarts", "0")) not in ("", "0"):
            what = f"{told}, and was started anew {restarts} times after it had failed"
            yield warn("units", what, f"`journalctl -u {name}` says why")
        elif name.endswith(".socket") and unit.get("UnitFileState") == "disabled":
            yield warn("units", f"{told}, but not at the next boot", f"`systemctl enable {name}`")
        else:
            yield ok("units", told)


def _of_status(status: dict[str, Any]) -> Iterator[Finding]:
    level = (status.get("access") or {}).get("level")
    yield ok(
        "answer",
        f"it answers as {of_uids([status['uid']])}, pid {status['pid']}"
        + (f"; you ask as {standing(level)}" if level else ""),
    )
    if status["version"] != __version__:
        what = (
            f"the daemon is hubd {status['version']}, and this is hubclient {__version__}; they understand each other"
        )
        yield warn("version", what, f"after an upgrade {restart(status)}, or upgrade the other one")
    else:
        yield ok("version", f"hubd and hubclient are {__version__}")
    for what, remedy in troubles({**status, "fleet": None}):  # which has a check of its own
        yield warn("daemon", what, remedy or f"{log(status)} may say more")


def _to_be_started() -> Iterator[Finding]:
    if importlib.util.find_spec("hubd") is None and shutil.which("hubd") is None:
        yield fail("answer", "none runs, and hubd is not installed to start one", "`pip install tf-hubd`")
    else:
        yield ok("answer", "none runs; the first command that needs it starts it")

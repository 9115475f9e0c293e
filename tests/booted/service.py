"""The machine with hubd on it, as its administrator and its users see it: commands, units, the journal."""

from __future__ import annotations

import json
import subprocess
from types import TracebackType
from typing import Any, NamedTuple, Self

from tests.support.machine import Machine

USERS = ("alice", "bob")
WHEELS = ("/mnt/dependencies", "/mnt/wheels")
TENSORFLOW = "/mnt/tensorflow"
NEXT_VERSION = "0.1.1"

SOCKET = "/run/hubd/hubd.sock"
CONFIG = "/etc/hubd/config.toml"
CACHE = "/var/cache/hubd"

_ALLOWED = """
[network]
allow_http = true
allow_private_addresses = true
retries = 0
[cache]
min_free = "0B"
"""

# Asks through the daemon again and again, each time over a connection of its own, as many short programs would.
_LOAD = """
import json, sys, threading
from hubclient import HubError
from hubclient.daemon import reach

over = threading.Event()
counts, failures = [0] * 4, []

def ask(number):
    while not over.wait(0.005):
        try:
            with reach() as daemon:
                for handle in sys.argv[1:]:
                    daemon.resolve(handle)
            counts[number] += 1
        except HubError as error:
            failures.append(f"{error.code}: {error}")
            print(failures[-1], flush=True)  # which is no number, and so ends the waiting
        if number == 0:
            print(counts[0], flush=True)

threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(counts))]
for thread in threads:
    thread.start()
sys.stdin.read()
over.set()
for thread in threads:
    thread.join()
print(json.dumps({"asked": sum(counts), "failures": failures}), flush=True)
"""

_API = """
import json, sys
from hubclient.daemon import reach
with reach() as daemon:
    print(json.dumps(getattr(daemon, sys.argv[1])(sys.argv[2])))
"""


class Line(NamedTuple):
    """A line of the journal."""

    priority: int  #: syslog(3): 3 error, 4 warning, 6 info, 7 debug
    text: str
    is_the_daemons: bool  #: else it is systemd that tells of it


class ServiceMachine(Machine):
    """A machine whose service is to be installed, used and removed."""

    def install(self, version: str | None = None) -> None:
        """What the documents tell an administrator to type, with these wheels for an index."""
        wanted = "tf-hubd" if version is None else f"tf-hubd=={version}"
        index = ["--no-index", *(f"--find-links={place}" for place in WHEELS)]
        self.run("/opt/hubd/bin/pip", "install", "-q", "--upgrade", *index, wanted)
        self.run("/opt/hubd/bin/hubd", "install", "--system")

    def configure(self, text: str = "", *, instead: str | None = None) -> None:
        """Writes the configuration: loopback is allowed, and this text; or another text alone."""
        self.write(CONFIG, _ALLOWED + text if instead is None else instead)

    def hubctl(self, user: str | None, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return self.attempt("hubctl", *arguments, user=user, environ=environ)

    def get(self, user: str, handle: str) -> str:
        """The path that `hubctl get` prints. Raises `Failed`."""
        return self.run("hubctl", "get", "-q", handle, user=user).strip()

    def status(self) -> dict[str, Any]:
        """`GET /v1/status`, asked by root."""
        return dict(json.loads(self.run("/opt/hubd/bin/python", "-c", _API, "get", "/v1/status")))

    def load(self, user: str, *handles: str) -> Load:
        """Context manager: programs of this user's ask for the handles without pause."""
        return Load(self, user, handles)

    def is_active(self, unit: str) -> bool:
        return self.attempt("systemctl", "is-active", "--quiet", unit).returncode == 0

    def shown(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--property", name, "--value", unit).strip()

    @property
    def pid(self) -> int:
        """The service's main process; 0: there is none."""
        return int(self.shown("hubd.service", "MainPID"))

    @property
    def restarts(self) -> int:
        """How often systemd has restarted the service by itself."""
        return int(self.shown("hubd.service", "NRestarts"))

    def drop_in(self, name: str, text: str) -> None:
        """An administrator's change to the unit, as `systemctl edit` makes it; an empty text takes it away."""
        directory = "/run/systemd/system/hubd.service.d"
        self.run("mkdir", "-p", directory)
        if text:
            self.write(f"{directory}/{name}.conf", text)
        else:
            self.run("rm", f"{directory}/{name}.conf")
        self.run("systemctl", "daemon-reload")

    def cursor(self) -> str:
        """Where the journal is now."""
        self.run("journalctl", "--sync")
        told = self.run("journalctl", "--lines=1", "--output=json")
        return str(json.loads(told)["__CURSOR"])

    def journal(self, since: str) -> list[Line]:
        """What the service, and systemd about it, have written since then."""
        self.run("journalctl", "--sync")
        told = self.run(
            "journalctl", "--output=json", f"--after-cursor={since}", "--unit=hubd.service", "--unit=hubd.socket"
        )
        entries = [json.loads(line) for line in told.splitlines()]
        return [
            Line(int(entry["PRIORITY"]), _text(entry["MESSAGE"]), entry.get("_SYSTEMD_UNIT") == "hubd.service")
            for entry in entries
        ]


class Load:
    """Many requests at once; `finish` tells how many there were and what failed."""

    def __init__(self, machine: Machine, user: str, handles: tuple[str, ...]) -> None:
        self._machine, self._user, self._handles = machine, user, handles

    def __enter__(self) -> Self:
        self._process = self._machine.begin("/opt/hubd/bin/python", "-c", _LOAD, *self._handles, user=self._user)
        try:
            self.wait_for_more()
        except BaseException:
            self._end()
            raise
        return self

    def wait_for_more(self, rounds: int = 5) -> None:
        """Returns when it has been answered so many times again."""
        told = self._process.stdout
        assert told is not None
        first = int(told.readline())
        while int(told.readline()) < first + rounds:
            pass

    def finish(self) -> tuple[int, list[str]]:
        """How often it was answered, and the errors that it got."""
        lines = self._process.communicate(timeout=60)[0].splitlines()
        told = json.loads(lines[-1])
        return told["asked"], told["failures"]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()  # its child in the machine hears that when it reads, or ends with the machine
        self._process.communicate()


def _text(message: str | list[int]) -> str:
    """The journal writes what is no text as numbers."""
    return message if isinstance(message, str) else bytes(message).decode(errors="replace")

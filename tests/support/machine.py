"""A machine with a real systemd: a Debian tree, booted in a container that has its own processes, network and users.

Law: nothing that happens in it changes the tree, and nothing of it outlives its block, however the test run ends.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")

_BOOT_SECONDS = 60.0
_COMMAND_SECONDS = 60.0
_PAUSE_SECONDS = 0.05
_CLONE_NEWNET = 0x40000000  # linux/sched.h
_CGROUPS = Path("/sys/fs/cgroup")


class Failed(AssertionError):
    """A command in the machine that did not exit with 0; the text has all that it wrote."""


class Machine:
    """Context manager: boots when its block begins, and is killed at its end."""

    def __init__(self, tree: Path, *, name: str, read_only: Mapping[Path, str]) -> None:
        """`read_only`: directories of this machine, and where they are in that one."""
        self._cgroups = _Cgroups(f"hubd-test-{os.getpid()}")
        # When the test run is killed `unshare` is killed with it, and with that all in its namespace of processes.
        # The namespace of mounts goes with the last of them.
        self._command = ["setpriv", "--pdeathsig", "KILL"]
        self._command += ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
        self._command += ["systemd-nspawn", "--quiet", "--boot", f"--directory={tree}", f"--machine={name}"]
        self._command += ["--volatile=overlay", "--private-network", "--register=no", "--link-journal=no"]
        self._command += ["--console=pipe", "--settings=no"]
        if not os.path.isdir("/run/systemd/system"):  # else it asks that systemd for a place among the cgroups
            self._command += ["--keep-unit"]
        self._command += [f"--bind-ro={source}:{place}" for source, place in read_only.items()]
        self._container: subprocess.Popen[bytes] | None = None
        self._leader = 0

    def run(
        self,
        *command: str,
        user: str | None = None,
        environ: Mapping[str, str] | None = None,
        said: str | None = None,
        timeout_seconds: float = _COMMAND_SECONDS,
    ) -> str:
        """What a command writes to stdout; `said` is what it reads. Raises `Failed`."""
        done = self.attempt(*command, user=user, environ=environ, said=said, timeout_seconds=timeout_seconds)
        if done.returncode != 0:
            raise Failed(f"{' '.join(command)} exited with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def attempt(
        self,
        *command: str,
        user: str | None = None,
        environ: Mapping[str, str] | None = None,
        said: str | None = None,
        timeout_seconds: float = _COMMAND_SECONDS,
    ) -> subprocess.CompletedProcess[str]:
        """A command that may fail, after it has ended. Raises `Failed` when it does not end."""
        entered = self._entered(command, user, environ or {})
        try:
            return subprocess.run(
                entered, input=said or "", capture_output=True, text=True, timeout=timeout_seconds, errors="replace"
            )
        except subprocess.TimeoutExpired as error:
            wrote = b"".join(filter(None, (error.stdout, error.stderr))).decode(errors="replace")
            raise Failed(f"{' '.join(command)} did not end within {timeout_seconds:.0f} s:\n{wrote}") from None

    def begin(
        self, *command: str, user: str | None = None, environ: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """A command that runs on, with pipes for its stdin and stdout."""
        entered = self._entered(command, user, environ or {})
        return subprocess.Popen(entered, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def write(self, path: str, text: str, *, mode: str = "0644") -> None:
        """Replaces a file of root's by one rename, as an editor does."""
        self.run(
            "sh", "-ec", 'umask 077; cat >"$1.new"; chmod "$2" "$1.new"; mv "$1.new" "$1"', "-", path, mode, said=text
        )

    def in_network(self, make: Callable[[], T]) -> T:
        """What `make` returns when it is called in the machine's network: sockets stay in that where they were made."""
        made: list[T] = []
        raised: list[BaseException] = []

        def enter() -> None:
            try:
                with open(f"/proc/{self._leader}/ns/net") as network:
                    if ctypes.CDLL(None, use_errno=True).setns(network.fileno(), _CLONE_NEWNET) != 0:
                        raise OSError(ctypes.get_errno(), "cannot enter the machine's network")
                made.append(make())
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=enter)  # the namespace is the thread's own, and goes with it
        thread.start()
        thread.join()
        for error in raised:
            raise error
        return made[0]

    def __enter__(self) -> Self:
        try:
            self._container = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                preexec_fn=self._cgroups.enter,
                start_new_session=True,  # Ctrl-C is for the test run, which then ends this
            )
            self._wait_for_boot(self._container)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _wait_for_boot(self, container: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _BOOT_SECONDS
        while not self._is_up(container.pid):
            if container.poll() is not None:
                assert container.stdout is not None
                raise Failed(f"systemd-nspawn ended: {container.stdout.read().decode(errors='replace')}")
            if time.monotonic() > deadline:
                raise Failed(f"the machine did not boot within {_BOOT_SECONDS:.0f} s")
            time.sleep(_PAUSE_SECONDS)
        state = self.attempt("systemctl", "is-system-running", "--wait").stdout.strip()
        if state != "running":
            raise Failed(f"the machine is {state}:\n{self.attempt('systemctl', '--failed').stdout}")

    def _is_up(self, unshare: int) -> bool:
        """Whether the machine's first process is systemd, and answers."""
        try:
            (nspawn,) = _children(unshare)
            (self._leader,) = _children(nspawn)
        except (ValueError, OSError):
            return False
        if not Path(f"/proc/{self._leader}/root/run/systemd/private").exists():
            return False
        return self.attempt("systemctl", "show", "--property=Version").returncode == 0

    def _entered(self, command: Sequence[str], user: str | None, environ: Mapping[str, str]) -> list[str]:
        home = "/root" if user is None else f"/home/{user}"
        variables = {"PATH": "/opt/hubd/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": home, "LANG": "C.UTF-8", **environ}
        become = [] if user is None else ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]
        assigned = [f"{name}={value}" for name, value in variables.items()]
        return ["nsenter", f"--target={self._leader}", "--all", "env", "-i", *assigned, *become, *command]

    def _end(self) -> None:
        if self._container is not None:
            with suppress(ProcessLookupError, FileNotFoundError):
                # The first process of its namespace, and with it all others; `unshare` then has seen its end.
                for nspawn in _children(self._container.pid):
                    os.kill(nspawn, signal.SIGKILL)
            self._container.communicate()
        self._cgroups.remove()


class _Cgroups:
    """Cgroups of the container's own, below this process's: two containers in one would take each other's apart."""

    def __init__(self, name: str) -> None:
        self._directories: list[Path] = []
        if os.path.isdir("/run/systemd/system"):
            return
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            for mounted in {"": ("unified", "."), "name=systemd": ("systemd",)}.get(controllers, ()):
                root = _CGROUPS / mounted / path.lstrip("/")
                if (root / "cgroup.procs").exists():
                    self._directories.append(root / name)

    def enter(self) -> None:
        """The calling process, and all that it starts, are in them from now on."""
        for directory in self._directories:
            directory.mkdir(exist_ok=True)
            (directory / "cgroup.procs").write_text("0")

    def remove(self) -> None:
        deadline = time.monotonic() + _BOOT_SECONDS
        for directory in self._directories:
            while directory.exists():
                for path, _, _ in os.walk(directory, topdown=False):
                    with suppress(OSError):  # a process that was killed is in it until the kernel has buried it
                        os.rmdir(path)
                if time.monotonic() > deadline:
                    raise Failed(f"{directory} does not become empty")
                time.sleep(0.01)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

"""This machine and this Python: limits of the kernel, and what is installed."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import resource
import subprocess
import sys
import time
from collections.abc import Iterator

from hubclient import __version__
from hubclient.cli.checks import Finding, fail, ok, warn

MIN_FILES = 256  # each module in use takes one, and Python and TensorFlow take some
MIN_WATCHES = 1024
MIN_INSTANCES = 64
_WRITTEN = 1767225600.0  # 2026-01-01: no right clock is before this code was written
_LOAD_SECONDS = 60.0

# In a process of its own: a library that does not fit this machine may end the process that opens it.
_LOAD = "from hubclient.capi.library import library; print(library().version)"


def check_limits(proc: str = "/proc") -> Iterator[Finding]:
    """Files, inotify and the clock."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < MIN_FILES:
        what = f"a process may have {soft} open files, and each module in use takes one"
        yield warn("files", what, f"`ulimit -n {MIN_FILES * 4}`")
    else:
        yield ok("files", f"{'any number' if soft == resource.RLIM_INFINITY else soft} may be open at once")
    watches = _number(f"{proc}/sys/fs/inotify/max_user_watches")
    instances = _number(f"{proc}/sys/fs/inotify/max_user_instances")
    if watches is not None and instances is not None:
        if watches < MIN_WATCHES or instances < MIN_INSTANCES:
            what = f"{watches} watches and {instances} instances for each user are few: changes may be noticed late"
            remedy = "`sysctl fs.inotify.max_user_instances=1024 fs.inotify.max_user_watches=524288`, as root"
            yield warn("inotify", what, remedy)
        else:
            yield ok("inotify", f"{watches} watches and {instances} instances for each user")
    if time.time() < _WRITTEN:
        what = f"the clock says {time.strftime('%Y-%m-%d')}: certificates will not be valid yet"
        yield fail("clock", what, "set it: `timedatectl set-ntp true`")


def check_python() -> Iterator[Finding]:
    """The interpreter, and TensorFlow, which is found and opened but never imported."""
    version = ".".join(map(str, sys.version_info[:3]))
    yield ok("python", f"{version} at {sys.executable or '?'}, with hubclient {__version__}")
    if importlib.util.find_spec("tensorflow") is None:
        what = "not installed here; get, prefetch and the like do without, load() and `hubctl run` need it"
        yield ok("tensorflow", what)
        return
    try:
        loaded = subprocess.run(
            [sys.executable, "-P", "-c", _LOAD], capture_output=True, text=True, timeout=_LOAD_SECONDS
        )
    except (OSError, subprocess.SubprocessError) as error:
        yield warn("tensorflow", f"whether its C library works could not be tried: {error}")
        return
    if loaded.returncode == 0:
        yield ok("tensorflow", f"{loaded.stdout.strip()}; its C library opens")
        return
    said = loaded.stderr.strip().splitlines()
    reason = said[-1] if said else f"the process ended with {loaded.returncode}"
    what = f"{_installed()} is installed, but its C library cannot be used: {reason}"
    yield fail("tensorflow", what, "`pip install --force-reinstall 'hubclient[tensorflow]'`")


def _installed() -> str:
    for name in ("tensorflow", "tensorflow-cpu", "tf-nightly"):
        try:
            return f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return "tensorflow"


def _number(path: str) -> int | None:
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None

"""A disk for a cache that fails as disks do, in a mount namespace of the daemon's own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.support.daemon import Daemon

_UNSHARE = ("unshare", "--user", "--map-root-user", "--mount")


def can_be_made() -> bool:
    """Whether this machine permits the namespaces."""
    command = [*_UNSHARE, "mount", "-t", "tmpfs", "none", "/mnt"]
    return shutil.which("unshare") is not None and subprocess.run(command, capture_output=True).returncode == 0


def wrapper(cache: Path, options: str = "size=64m") -> list[str]:
    """What to put before the daemon's command, so that its cache lies on a file system of its own."""
    cache.mkdir(exist_ok=True)
    script = f'mount -t tmpfs -o mode=755,{options} none {cache} && exec "$@"'
    return [*_UNSHARE, "sh", "-c", script, "sh"]


def make_read_only(daemon: Daemon) -> None:
    """Whatever the daemon opens from now on lies on a read-only file system, as after an error of the disk."""
    # A file that is open for writing keeps the mount from a change, but not from being covered by another one.
    run(daemon, f"mount --bind {daemon.cache} {daemon.cache} && mount -o remount,bind,ro {daemon.cache}")


def make_writable(daemon: Daemon) -> None:
    run(daemon, f"umount --lazy {daemon.cache}")


def run(daemon: Daemon, script: str) -> None:
    """Where the daemon's disk is seen."""
    inside = ["nsenter", "-t", str(daemon.pid), "-U", "-m", "--preserve-credentials", "sh", "-c", script]
    done = subprocess.run(inside, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

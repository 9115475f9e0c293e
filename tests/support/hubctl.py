"""hubctl as a process of its own, told of one daemon and of nothing else on this machine."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.support.daemon import Daemon

COMMAND = (sys.executable, "-P", "-m", "hubclient.cli")
SECONDS = 30.0


def environ_for(daemon: Daemon, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HUBD_", "TFHUB_", "XDG_"))}
    home = str(daemon.cache.parent)
    return {
        **kept,
        "HOME": home,
        "HUBD_SOCKET": str(daemon.socket),
        "HUBD_TIMEOUT": "5",
        "HUBD_AUTOSTART": "0",
        "TERM": "xterm-256color",
        **more,
    }


def hubctl(daemon: Daemon, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """A command that has ended, with its output."""
    return subprocess.run(
        [*COMMAND, *arguments], env=environ_for(daemon, **environ), capture_output=True, text=True, timeout=SECONDS
    )

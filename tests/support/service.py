"""A daemon of one unprivileged user that serves everyone, as the system's service does, and requests of other users."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support import as_user, uids
from tests.support.daemon import ask
from tests.support.process import Process
from tests.support.uids import ALICE
from tests.support.waiting import wait_until

CONFIG = """
[cache]
min_free = "0B"
[network]
retries = 0
allow_http = true
allow_private_addresses = true
"""


class Service(Process):
    """Context manager: ALICE's daemon, in a directory of hers that everyone may enter. Its log is in `log`."""

    def __init__(self, directory: Path, network: str = "", environ: Mapping[str, str] | None = None) -> None:
        self.cache = directory / "cache"
        self.socket = directory / "hubd.sock"
        self.log = directory / "hubd.log"
        self.config = directory / "hubd.toml"
        self.config.write_text(CONFIG + network)
        self._environ = {"PATH": os.defpath, **(environ or {})}

    def start(self) -> None:
        program = [sys.executable, "-P", "-m", "hubd", "run", "--config", str(self.config)]
        program += ["--cache-dir", str(self.cache), "--socket", str(self.socket)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                as_user.command(ALICE, *program),
                cwd=as_user.REPOSITORY,
                stdout=log,
                stderr=log,
                env=self._environ,
            )
        wait_until(self._answers)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(self.socket))
            except OSError:
                return False
            return True

    def request(
        self, uid: int, method: str, path: str, body: Any = None, *, groups: Sequence[int] = ()
    ) -> tuple[int, Any]:
        """Status and JSON of one request of this user's, who has these groups."""
        if uid == os.geteuid():
            return ask(self.socket, method, path, body)
        return uids.as_user(uid, lambda: ask(self.socket, method, path, body), groups)

    def resolve(self, uid: int, handle: str, token: str | None = None, **fields: Any) -> tuple[int, Any]:
        """A resolve of this user's, who shows this bearer token."""
        shown = {"credential": {"type": "bearer", "value": token}} if token is not None else {}
        return self.request(uid, "POST", "/v1/resolve", {"handle": handle, **shown, **fields})

"""A daemon of one unprivileged user that serves everyone, as the system's service does, and requests of other users."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support import as_user, uids
from tests.support.daemon import UnixConnection
from tests.support.uids import ALICE

_STOP_SECONDS = 10.0
CONFIG = """
[cache]
min_free = "0B"
[network]
allow_http = true
allow_private_addresses = true
"""


class Service:
    """Context manager: ALICE's daemon, in a directory of hers that everyone may enter. Its log is in `log`."""

    def __init__(self, directory: Path, network: str = "") -> None:
        self.cache = directory / "cache"
        self.socket = directory / "hubd.sock"
        self.log = directory / "hubd.log"
        self._config = directory / "hubd.toml"
        self._config.write_text(CONFIG + network)
        self._running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = [sys.executable, "-P", "-m", "hubd", "run", "--config", str(self._config)]
        program += ["--cache-dir", str(self.cache), "--socket", str(self.socket)]
        log = self.log.open("ab")
        self._running = subprocess.Popen(
            as_user.command(ALICE, *program),
            cwd=as_user.REPOSITORY,
            stderr=subprocess.PIPE,
            stdout=log,
            env={"PATH": os.defpath},
        )
        log.close()
        assert self._running.stderr is not None
        ready = self._running.stderr.readline()
        assert b"ready" in ready, ready + self._running.stderr.read()

    def stop(self) -> None:
        assert self._running is not None
        self._running.terminate()
        assert self._running.wait(_STOP_SECONDS) == 0
        assert self._running.stderr is not None
        self._running.stderr.close()
        self._running = None

    def request(self, uid: int, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and JSON of one request of this user's."""

        def ask() -> tuple[int, Any]:
            connection = UnixConnection(str(self.socket))
            try:
                connection.request(method, path, json.dumps(body) if body is not None else None)
                answer = connection.getresponse()
                return answer.status, json.loads(answer.read())
            finally:
                connection.close()

        return ask() if uid == os.geteuid() else uids.as_user(uid, ask)

    def resolve(self, uid: int, handle: str, token: str | None = None, **fields: Any) -> tuple[int, Any]:
        """A resolve of this user's, who shows this bearer token."""
        shown = {"credential": {"type": "bearer", "value": token}} if token is not None else {}
        return self.request(uid, "POST", "/v1/resolve", {"handle": handle, **shown, **fields})

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._running is not None:
            self._running.kill()
            self._running.wait()

"""Machines with a front of their own each before the store that they share, which is of any kind.

Law: whatever is done to them, what `assert_right` says of the store holds, and no client waits for longer than
`BOUND_SECONDS`.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.support.buckets import Bucket
from tests.support.daemon import Daemon
from tests.support.front import Front, Script

PREFIX = "shared/models"
CLAIM_SECONDS = 2
STALL_SECONDS = 10
#: The longest that a client may wait here, for its module or for an error: the sum of what the settings allow, and time
#: for two slow cores.
BOUND_SECONDS = 30.0

_SETTINGS = """
[fleet]
store = "{handle}/{prefix}"
claim_timeout = "{claim_seconds}s"
max_wait = "15s"

[network]
retries = 0
connect_timeout = "2s"
stall_timeout = "{stall_seconds}s"
{network}
{store}
"""


class Machine(Daemon):
    """A daemon, and what stands between it and the store."""

    def __init__(self, directory: Path, front: Front, config: str, **options: Any) -> None:
        super().__init__(directory, config=config, **options)
        self.front = front

    def ask(self, handle: str, **fields: Any) -> Future[tuple[int, Any]]:
        """Asks for a module in the background: the answer, or why there is none."""
        answer: Future[tuple[int, Any]] = Future()

        def run() -> None:
            try:
                answer.set_result(self.resolve(handle, **fields))
            except (OSError, http.client.HTTPException) as error:  # the daemon was killed
                answer.set_exception(error)

        threading.Thread(target=run, daemon=True).start()
        return answer

    def fleet(self) -> dict[str, Any]:
        """What ``GET /v1/fleet`` tells."""
        status, told = self.request("GET", "/v1/fleet")
        assert status == 200, told
        return dict(told)


class Fleet:
    """Makes them, until the block of `fronted` ends."""

    def __init__(self, bucket: Bucket, place: Path, stack: ExitStack) -> None:
        self.bucket = bucket
        self._place = place
        self._stack = stack

    def add(
        self,
        name: str,
        script: Script = lambda _: None,
        *,
        claim_seconds: int = CLAIM_SECONDS,
        stall_seconds: int = STALL_SECONDS,
        network: str = "",
        **options: Any,
    ) -> Machine:
        """One more that runs. `script`: see `Front`; `network`: further lines of its section; the rest is `Daemon`'s.

        `claim_seconds`: more than a busy machine may take to say that it lives, where nobody is to be taken for dead.
        `stall_seconds`: so long one that waits for bytes lives before it fails by itself.
        """
        front = self._stack.enter_context(Front(self.bucket.port, script=script))
        directory = self._place / name
        directory.mkdir(mode=0o700)
        config = _SETTINGS.format(
            handle=self.bucket.handle,
            prefix=PREFIX,
            claim_seconds=claim_seconds,
            stall_seconds=stall_seconds,
            network=network,
            store=self.bucket.settings(directory, front.port),
        )
        return self._stack.enter_context(Machine(directory, front, config, **options))

    def records(self) -> dict[str, Any]:
        """What the store has under `handles/`, by path."""
        return {path: json.loads(self.bucket.read(path) or b"") for path in self.bucket.paths(f"{PREFIX}/handles")}

    def claims(self) -> list[str]:
        return self.bucket.paths(f"{PREFIX}/claims")

    def archive_path(self, archive: bytes) -> str:
        return f"{PREFIX}/archives/{hashlib.sha256(archive).hexdigest()}"

    def assert_right(self, *archives: bytes) -> None:
        """Each record names an archive that is there, has its digest, and is one of these; and there is no other."""
        right = {hashlib.sha256(archive).hexdigest() for archive in archives}
        for path, record in self.records().items():
            stored = self.bucket.read(f"{PREFIX}/archives/{record['digest']}")
            assert stored is not None, f"{path} names an archive that is not there"
            assert hashlib.sha256(stored).hexdigest() == record["digest"] in right, path
        for path in self.bucket.paths(f"{PREFIX}/archives"):
            assert hashlib.sha256(self.bucket.read(path) or b"").hexdigest() == path.rpartition("/")[2] in right, path


@contextmanager
def fronted(bucket: Bucket, place: Path) -> Iterator[Fleet]:
    with ExitStack() as stack:
        yield Fleet(bucket, place, stack)

"""Client processes: programs of users that resolve a handle, tell the path and stay."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Self

_CODE = """
import sys, hubclient
handle = sys.argv[1]
while True:
    try:
        print(hubclient.resolve(handle), flush=True)
    except hubclient.HubError as error:
        print(f"{error.code}: {error}", flush=True)
    if not sys.stdin.readline():
        break
"""
_END_SECONDS = 60.0


class Client:
    """Context manager: one process. It holds its lease until the block ends."""

    def __init__(self, handle: str, environ: Mapping[str, str]) -> None:
        self._handle = handle
        self._environ = environ

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", _CODE, self._handle],
            env=self._environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def ask_again(self) -> None:
        """The same process resolves the handle once more, and has a further answer."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        """The path, or the error's code and text, as soon as it is there."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().removesuffix("\n")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(_END_SECONDS)
        finally:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()

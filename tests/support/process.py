"""A program under test in a process of its own.

Law: nothing that was started outlives its block, not even where starting fails.
"""

from __future__ import annotations

import subprocess
from signal import SIGTERM, Signals
from types import TracebackType
from typing import Self

_STOP_SECONDS = 30.0


class Process:
    """Context manager, to be built upon: `start` sets `_process`."""

    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        raise NotImplementedError

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def signal(self, number: Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def wait(self) -> int:
        """The exit code."""
        assert self._process is not None
        return self._process.wait(_STOP_SECONDS)

    def stop(self, number: Signals = SIGTERM) -> int:
        """The exit code."""
        self.signal(number)
        return self.wait()

    def close(self) -> None:
        """At the end of the block, however it ends."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

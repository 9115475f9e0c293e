"""What fails again and again, as a disk does that has become read-only.

Law: a trouble that lasts is one line in the log when it begins, and one when it is over, however often it is met.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from hubclient.contract.errors import HubError


class Troubles:
    """Tells a log of them."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._met: dict[str, tuple[type[BaseException], int | None]] = {}

    @contextmanager
    def told(self, what: str) -> Iterator[None]:
        """Goes on after an error inside."""
        try:
            yield
        except Exception as error:
            self.met(what, error)
        else:
            self.over(what)

    def met(self, what: str, error: Exception) -> None:
        """`what` failed, for this reason. What is no `HubError` is a mistake of our own, told with its traceback."""
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        kind = type(cause), cause.errno if isinstance(cause, OSError) else None
        if self._met.get(what) == kind:
            return
        self._met[what] = kind
        if isinstance(error, HubError):
            self._log.warning("%s: %s", what, error)
        else:
            self._log.error("%s", what, exc_info=error)

    def over(self, what: str) -> None:
        """It went well."""
        if self._met.pop(what, None) is not None:
            self._log.info("it goes well again: %s", what)

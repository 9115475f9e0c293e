"""What hubclient warns of, and how: at the line of the user's program that asked."""

from __future__ import annotations

import sys
import warnings


class HubWarning(UserWarning):
    """Something about a module that its user may want to know."""


class StaleModuleWarning(HubWarning):
    """The module may be older than what its publisher offers now: nobody could be asked."""


def warn(text: str, category: type[HubWarning]) -> None:
    """`warnings.warn`, attributed to the first caller outside of this package."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in (
        "hubclient",
        "contextlib",
    ):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, category, stacklevel=level)

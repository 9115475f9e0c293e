"""What `hubctl doctor` looks at, one file for each subject.

Law: a check only looks: it starts nothing, changes nothing, and waits for nothing longer than seconds.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

State = Literal["ok", "warn", "fail"]


class Finding(NamedTuple):
    """What one check found. `fail`: hubd or hubclient cannot work so, or not safely; `remedy` mends it."""

    check: str
    state: State
    what: str
    remedy: str | None = None


def ok(check: str, what: str) -> Finding:
    return Finding(check, "ok", what)


def warn(check: str, what: str, remedy: str | None = None) -> Finding:
    return Finding(check, "warn", what, remedy)


def fail(check: str, what: str, remedy: str | None = None) -> Finding:
    return Finding(check, "fail", what, remedy)

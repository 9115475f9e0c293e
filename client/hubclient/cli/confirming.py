"""Asking the person at the terminal before something is done that cannot be undone.

Law: nobody is asked where nobody can answer, and no answer is no.
"""

from __future__ import annotations

import sys


def can_ask() -> bool:
    """Whether a person reads stderr and writes to stdin."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))


def confirm(question: str) -> bool:
    """Ask on stderr, with "no" for whatever is no clear "yes"."""
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):  # Ctrl-D leaves the cursor behind the question
        print(file=sys.stderr, flush=True)
    return answer.strip().lower() in ("y", "yes")

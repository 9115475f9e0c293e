"""`hubctl help`: what is worth knowing beside the commands, by topic.

Law: a topic is a text file in `topics/`, whose first line is its title; there is no list of them to forget.
"""

from __future__ import annotations

import difflib
import os
import pydoc
import shutil

from hubclient.cli.output import emit
from hubclient.cli.tables import drawable

#: In the order in which people meet them; what is not named here comes last.
ORDER = ("handles", "cache", "service", "environment", "exit-codes", "errors", "fleet")

_TOPICS = os.path.join(os.path.dirname(__file__), "topics")
_END = ".txt"


def topics() -> list[str]:
    """The names of all topics."""
    names = sorted(name.removesuffix(_END) for name in os.listdir(_TOPICS) if name.endswith(_END))
    return sorted(names, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))


def text_of(topic: str) -> str:
    """The text of a topic."""
    with open(os.path.join(_TOPICS, topic + _END), encoding="utf-8") as file:
        return file.read()


def title_of(topic: str) -> str:
    """Its first line."""
    return text_of(topic).partition("\n")[0]


def contents() -> str:
    """All topics, a line each."""
    names = topics()
    width = max(map(len, names))
    lines = [f"  {name:<{width}}  {title_of(name)}" for name in names]
    return "\n".join(
        [
            "hubctl help TOPIC, and there are:",
            "",
            *lines,
            "",
            "hubctl help COMMAND is the same as hubctl COMMAND --help.",
        ]
    )


def nearest(name: str, commands: list[str]) -> str | None:
    """The topic or command that may have been meant."""
    return next(iter(difflib.get_close_matches(name, [*topics(), *commands], 1)), None)


def show(text: str) -> None:
    """Print a text, by a pager where it is longer than the terminal."""
    if drawable() and text.count("\n") >= shutil.get_terminal_size().lines:
        pydoc.pager(text)
    else:
        emit(text)

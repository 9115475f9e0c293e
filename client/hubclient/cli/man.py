"""The manual page hubctl(1), made of what `hubctl --help` and `hubctl help` say, in the language of man(7).

Law: it is made when it is asked for, so it says what this hubctl does, and nothing that its help does not.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import typer

from hubclient import __version__
from hubclient.cli.app import app
from hubclient.cli.helping import text_of, title_of, topics


def page() -> str:
    """The whole page as roff."""
    group = typer.main.get_group(app)
    return "".join(line + "\n" for line in _page(group))


def _page(group: Any) -> Iterator[str]:
    about, *rest = _paragraphs(group.help)
    yield f'.TH HUBCTL 1 "" "hubclient {__version__}" "User Commands"'
    yield from (".SH NAME", f"hubctl \\- {_escaped(about[0].rstrip('.'))}")
    yield from (".SH SYNOPSIS", ".B hubctl", "COMMAND [OPTION]... [ARGUMENT]...")
    yield ".SH DESCRIPTION"
    yield from _text(rest)
    yield ".SH COMMANDS"
    yield from _commands(group, "hubctl")
    for topic in topics():
        _, *body = _paragraphs(text_of(topic))
        yield f'.SH "{_escaped(title_of(topic).upper())}"'
        yield from _text(body)


def _commands(group: Any, called: str) -> Iterator[str]:
    for command in group.commands.values():
        if command.hidden:
            continue
        yield from _command(command, called)
        if hasattr(command, "commands"):
            yield from _commands(command, f"{called} {command.name}")


def _command(command: Any, called: str) -> Iterator[str]:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    words = [(one.metavar or one.name.upper()) + ("..." if one.nargs == -1 else "") for one in arguments]
    yield f'.SS "{_escaped(" ".join([called, command.name, *words]))}"'
    yield from _text(_paragraphs(command.help))
    for option in command.params:
        if option.param_type_name != "option" or option.hidden:
            continue
        value = "" if option.is_flag else f" \\fI{_escaped(option.metavar or option.name.upper())}\\fR"
        names = ", ".join(f"\\fB{_escaped(name)}\\fR" for name in option.opts)
        yield from (".TP", names + value, _escaped(option.help or ""))


def _paragraphs(text: str) -> list[list[str]]:
    """The lines of a text, paragraph by paragraph, the indentation that all share taken away."""
    return [part.splitlines() for part in re.split(r"\n\s*\n", inspect.cleandoc(text))]


def _text(paragraphs: list[list[str]]) -> Iterator[str]:
    """Paragraphs are filled; what is indented or has columns stays as it is."""
    for lines in paragraphs:
        is_exact = any(re.match(r"\s", line) or "   " in line for line in lines)
        yield ".PP"
        yield from (".nf", *map(_escaped, lines), ".fi") if is_exact else map(_escaped, lines)


def _escaped(text: str) -> str:
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    return f"\\&{escaped}" if escaped[:1] in (".", "'") else escaped

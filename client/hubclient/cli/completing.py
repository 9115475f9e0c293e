"""What may come next on hubctl's command line: the answer to the scripts of `hubctl completion`.

Law: it never starts a daemon, waits for one no longer than `HANDLES_SECONDS`, and prints candidates or nothing.

The scripts call ``hubctl __complete SHELL WORD...``; the last word is the one to complete. A line of the answer is a
candidate for all of that word, a tab, and what it is; the single line ``:files`` leaves it to the shell's own files.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from hubclient.cli.asking import Answered, Failed, ask_all
from hubclient.cli.helping import title_of, topics
from hubclient.cli.output import emit
from hubclient.cli.wording import printable, size

HANDLES_SECONDS = 1.0
FILES = ":files"

_FILTERS = {
    "size>": "larger than",
    "used>": "last used longer ago than",
    "used<": "last used within",
    "fetched<": "fetched within",
    "pinned=true": "pinned",
    "leased=true": "held by a program now",
    "immutable=false": "whose host is asked again",
    "handle~": "with this in the handle",
}
_SAFE = frozenset("%+,-./:=@_~")  # what means nothing to a shell, beside letters and digits


class Candidate(NamedTuple):
    """A word that may stand here, and what it is."""

    word: str
    what: str = ""


Handles = Callable[[str], Sequence[Candidate]]
#: None: whatever the shell completes by itself
Answer = Sequence[Candidate] | None


def answer(arguments: Sequence[str], environ: Mapping[str, str]) -> None:
    """Print what `arguments`, those behind ``__complete``, ask for."""
    shell, *words = arguments
    breaks = ""
    if shell == "bash":  # it gives the line up to the cursor, and the characters at which it cuts words
        line, breaks = words
        words = split(line)[1:]
    found = complete(words, lambda begun: cached_handles(begun, environ))
    if found is None:
        emit(FILES)
        return
    lines = [f"{printable(word)}\t{what}" if what else printable(word) for word, what in found]
    if shell == "bash":
        lines = [_for_bash(printable(word), words[-1], breaks) for word, _ in found]
    if lines:
        emit("\n".join(lines))


def complete(words: Sequence[str], handles: Handles) -> Answer:
    """What the last of the words may become; the others stand before it, without `hubctl`."""
    import typer

    from hubclient.cli.app import app

    *before, begun = words or [""]
    command, given = _meant(typer.main.get_group(app), before)
    if command is None:
        return []
    if (commands := getattr(command, "commands", None)) is not None:
        if begun.startswith("-"):
            return _fitting(begun, _options(command.params, given))
        shown = [one for one in commands.values() if not one.hidden]
        return _fitting(begun, [Candidate(str(one.name), one.get_short_help_str(60)) for one in shown])
    if "--" in given:
        return None
    by_name = {name: param for param in command.params for name in param.opts if name.startswith("-")}
    name, equals, value = begun.partition("=")
    if begun.startswith("--") and equals:
        found = _values(by_name.get(name), value)
        return found and [Candidate(f"{name}={word}", what) for word, what in found]
    if given and (option := by_name.get(given[-1])) is not None and not getattr(option, "is_flag", False):
        return _values(option, begun)
    if begun.startswith("-"):
        return _fitting(begun, _options(command.params, given))
    return _arguments(command, begun, handles)


def cached_handles(begun: str, environ: Mapping[str, str]) -> list[Candidate]:
    """The cached handles that begin so, as far as a running daemon tells them at once."""
    from hubclient.cli.snapshot import reach_running
    from hubclient.contract.errors import HubError

    deadline = time.monotonic() + HANDLES_SECONDS
    asked = "/v1/modules?limit=1000" + (f"&filter=handle~{quote(begun, safe='')}" if begun else "")
    try:
        daemon = reach_running({**environ, "HUBD_TIMEOUT": "0"})
        for event in ask_all([asked], lambda path, _: daemon.get(path)):
            match event:
                case Answered(_, page, _):
                    found = [Candidate(one["handle"], size(one["size_bytes"])) for one in page["modules"]]
                    return sorted(_fitting(begun, found))
                case Failed():
                    return []
            if time.monotonic() > deadline:
                return []
    except (HubError, OSError):
        return []
    return []


def split(line: str) -> list[str]:
    """The words of a command line up to the cursor, of which the last may be empty, or quoted and not yet closed."""
    for closing in ("", "\\", "'", '"'):
        try:
            words = shlex.split(line + closing)
        except ValueError:
            continue
        return [*words, ""] if not closing and line[-1:].isspace() else words
    return [""]


def _meant(group: Any, words: Sequence[str]) -> tuple[Any, Sequence[str]]:
    """The command that the words name, a group if they name no command of it, None if there is none of that name; and
    what they say to it."""
    command: Any = group
    while command is not None and (commands := getattr(command, "commands", None)) is not None:
        place = next((number for number, word in enumerate(words) if not word.startswith("-")), None)
        if place is None:
            break
        command, words = commands.get(words[place]), words[place + 1 :]
    return command, words


def _arguments(command: Any, begun: str, handles: Handles) -> Answer:
    kinds = [param.metavar or param.name or "" for param in command.params if param.param_type_name == "argument"]
    wanted = " ".join(kinds)
    choices = [choice for param in command.params if param.param_type_name == "argument" for choice in _choices(param)]
    if choices:
        return _fitting(begun, choices)
    if wanted == "TOPIC":
        return _fitting(begun, [Candidate(topic, title_of(topic)) for topic in topics()])
    if "HANDLE" in wanted and not begun.startswith((".", "/", "~")):
        return handles(begun)
    return None if any(kind in wanted for kind in ("HANDLE", "FILE", "DIR")) else []


def _values(option: Any, begun: str) -> Answer:
    if option is None:
        return []
    metavar = option.metavar or ""
    if metavar == "FILTER":
        return _fitting(begun, [Candidate(*one) for one in _FILTERS.items()])
    if any(kind in metavar for kind in ("FILE", "OUT", "DIR")):
        return None
    return _fitting(begun, _choices(option))


def _choices(param: Any) -> list[Candidate]:
    # Its name differs between versions of typer.
    kind = getattr(param, "type_descriptor", None) or getattr(param, "type", None)
    return [Candidate(str(getattr(choice, "value", choice))) for choice in getattr(kind, "choices", None) or ()]


def _options(params: Sequence[Any], given: Sequence[str]) -> list[Candidate]:
    """The options, by their long names, of which none is offered twice unless it may be repeated."""
    options = [param for param in params if param.param_type_name == "option" and not getattr(param, "hidden", False)]
    left = [param for param in options if param.multiple or not set(param.opts) & set(given)]
    found = [Candidate(max(param.opts, key=len), (param.help or "").partition(". ")[0]) for param in left]
    return [*found, Candidate("--help", "Show what there is to know.")]


def _fitting(begun: str, candidates: Sequence[Candidate]) -> list[Candidate]:
    return [one for one in candidates if one.word.startswith(begun)]


def _for_bash(word: str, begun: str, breaks: str) -> str:
    """What bash puts in the place of the part of the word that it means, which begins behind the last break."""
    start = max((begun.rfind(one) for one in breaks if one in ":="), default=-1) + 1
    return "".join(one if one.isalnum() or one in _SAFE else f"\\{one}" for one in word[start:])


def script(shell: str) -> str:
    """The script that makes the shell ask."""
    path = os.path.join(os.path.dirname(__file__), "shells", f"hubctl.{shell}")
    with open(path, encoding="utf-8") as file:
        return file.read()

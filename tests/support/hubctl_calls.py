"""Calls of hubctl in texts for people, and whether hubctl has what they name."""

from __future__ import annotations

import re
import shlex
from typing import Any

import typer

from hubclient.cli.app import app

BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_QUOTED = re.compile(r"`(hubctl [^`]+)`")


def commands(text: str) -> list[str]:
    """Every call of hubctl in blocks and between backticks."""
    lines = [line for kind, block in BLOCK.findall(text) if kind in ("", "sh") for line in block.splitlines()]
    calls = [line[line.index("hubctl ") :] for line in lines if re.search(r"(^|sudo |then: )hubctl ", line)]
    return [*calls, *_QUOTED.findall(BLOCK.sub("", text))]


def complaint(call: str) -> str | None:
    """What is wrong with the call's name or options; None when nothing is."""
    words = shlex.split(call, comments=True)[1:]
    words = words[: words.index("--")] if "--" in words else words
    command: Any = typer.main.get_group(app)
    called = "hubctl"
    while (commands := getattr(command, "commands", None)) is not None and words[:1] not in ([], ["--help"]):
        name, *words = words
        if name not in commands:
            return f"{called} has no command {name!r}"
        command, called = commands[name], f"{called} {name}"
    options = {opt for param in command.params for opt in (*param.opts, *param.secondary_opts)} | {"--help", "-h"}
    unknown = [word for word in words if word.startswith("-") and word.partition("=")[0] not in options]
    return f"{called} has no {unknown}" if unknown else None

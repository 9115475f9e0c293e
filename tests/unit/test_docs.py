"""What the documents tell people to type exists: each command of hubctl, with these options, and each setting."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer

from hubclient.cli.app import app
from hubd import config

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    str(path.relative_to(ROOT))
    for path in (*ROOT.glob("docs/*.md"), *ROOT.glob("docs/operations/*.md"), *ROOT.glob("*/README.md"))
)
DOCUMENTS += ["README.md", "config.example.toml"]

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_QUOTED = re.compile(r"`(hubctl [^`]+)`")


def commands(text: str) -> list[str]:
    """Every call of hubctl in blocks and between backticks."""
    lines = [line for kind, block in _BLOCK.findall(text) if kind in ("", "sh") for line in block.splitlines()]
    calls = [line[line.index("hubctl ") :] for line in lines if re.search(r"(^|sudo |then: )hubctl ", line)]
    return [*calls, *_QUOTED.findall(_BLOCK.sub("", text))]


def complaint(call: str) -> str | None:
    """What is wrong with the call's name or options; None when nothing is."""
    words = shlex.split(call, comments=True)[1:]
    words = words[: words.index("--")] if "--" in words else words
    known = {command.name: command for command in typer.main.get_group(app).commands.values()}
    name, *arguments = words
    if name == "--help":
        return None
    if name not in known:
        return f"hubctl has no command {name!r}"
    options = {opt for param in known[name].params for opt in (*param.opts, *param.secondary_opts)} | {"--help", "-h"}
    unknown = [word for word in arguments if word.startswith("-") and word.partition("=")[0] not in options]
    return f"hubctl {name} has no {unknown}" if unknown else None


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_command_that_a_document_names_exists_with_its_options(name: str) -> None:
    calls = commands((ROOT / name).read_text())
    assert [told for call in calls if (told := complaint(call)) is not None] == []


def test_a_command_or_an_option_that_is_not_there_is_found() -> None:
    text = "```\nhubctl get HANDLE  # a path\nsudo hubctl show --holder X\n```\nthen `hubctl top` and `hubctl ls`\n"
    assert commands(text) == ["hubctl get HANDLE  # a path", "hubctl show --holder X", "hubctl top", "hubctl ls"]
    assert [complaint(call) for call in commands(text)] == [
        None,
        "hubctl show has no ['--holder']",
        "hubctl has no command 'top'",
        None,
    ]
    assert len(commands((ROOT / "docs/the-cache.md").read_text())) > 10


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_piece_of_a_configuration_in_a_document_is_one(name: str, tmp_path: Path) -> None:
    for kind, block in _BLOCK.findall((ROOT / name).read_text()):
        if kind == "toml":
            (tmp_path / "config.toml").write_text(block)
            config.load(str(tmp_path / "config.toml"), user=False)

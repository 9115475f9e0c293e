"""What the documents tell people to type exists: each command of hubctl, with these options, and each setting."""

from __future__ import annotations

from pathlib import Path

import pytest

from hubd import config
from tests.support.hubctl_calls import BLOCK, commands, complaint

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    str(path.relative_to(ROOT))
    for path in (*ROOT.glob("docs/*.md"), *ROOT.glob("docs/operations/*.md"), *ROOT.glob("*/README.md"))
)
DOCUMENTS += ["README.md", "config.example.toml"]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_command_that_a_document_names_exists_with_its_options(name: str) -> None:
    calls = commands((ROOT / name).read_text())
    assert [told for call in calls if (told := complaint(call)) is not None] == []


def test_a_command_or_an_option_that_is_not_there_is_found() -> None:
    text = "```\nhubctl get HANDLE  # a path\nsudo hubctl show --holder X\n```\nthen `hubctl tip` and `hubctl ls`\n"
    assert commands(text) == ["hubctl get HANDLE  # a path", "hubctl show --holder X", "hubctl tip", "hubctl ls"]
    assert [complaint(call) for call in commands(text)] == [
        None,
        "hubctl show has no ['--holder']",
        "hubctl has no command 'tip'",
        None,
    ]
    assert len(commands((ROOT / "docs/the-cache.md").read_text())) > 10


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_piece_of_a_configuration_in_a_document_is_one(name: str, tmp_path: Path) -> None:
    for kind, block in BLOCK.findall((ROOT / name).read_text()):
        if kind == "toml":
            (tmp_path / "config.toml").write_text(block)
            config.load(str(tmp_path / "config.toml"), user=False)

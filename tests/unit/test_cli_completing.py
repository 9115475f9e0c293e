"""What may come next on hubctl's command line."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from hubclient.cli.completing import Candidate, answer, complete, script, split

HANDLES = ["https://h.example/a/1", "https://h.example/b?x=1&y=2"]
BREAKS = " \t\n\"'><=;|&(:"


def handles(begun: str) -> list[Candidate]:
    return [Candidate(one, "1.0 MB") for one in HANDLES if one.startswith(begun)]


def words(*line: str) -> list[str] | None:
    found = complete(line, handles)
    return None if found is None else [word for word, _ in found]


def test_commands_come_first_each_with_what_it_does() -> None:
    found = complete([""], handles)
    assert found is not None
    assert {"get", "ls", "status", "doctor", "completion"} <= {word for word, _ in found}
    assert all(what for _, what in found)
    assert words("st") == ["status"]
    assert words("-") == ["--version", "--help"]
    assert words("--version", "st") == ["status"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["ls", "--so"], ["--sort"]),
        (["ls", "--sort", "u"], ["used"]),
        (["ls", "--sort=f"], ["--sort=fetched"]),
        (["ls", "--filter", "s"], ["size>"]),
        (["get", ""], HANDLES),
        (["get", HANDLES[0], "https://h.example/b"], HANDLES[1:]),
        (["get", "--digest", ""], []),
        (["get", "--nonsense="], []),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["help", "env"], ["environment"]),
        (["status", ""], []),
        (["nonsense", ""], []),
        (["fleet", ""], ["status", "ls", "push", "prune"]),
        (["fleet", "pr"], ["prune"]),
        (["fleet", "prune", "--ol"], ["--older-than"]),
        (["fleet", "push", "https://h.example/b"], HANDLES[1:]),
        (["fleet", "-"], ["--help"]),
        (["fleet", "nonsense", ""], []),
    ],
    ids=str,
)
def test_options_values_and_handles_are_completed(line: Sequence[str], expected: list[str]) -> None:
    assert words(*line) == expected


@pytest.mark.parametrize(
    "line",
    [["get", "./m"], ["show", "/"], ["pack", ""], ["run", "--output", ""], ["exec", HANDLES[0], "--", ""]],
    ids=str,
)
def test_paths_and_commands_are_left_to_the_shell(line: Sequence[str]) -> None:
    assert words(*line) is None


def test_an_option_is_offered_once_unless_it_may_be_repeated() -> None:
    assert words("ls", "--json", "--filter", "size>1GB", "--") == ["--filter", "--sort", "--limit", "--quiet", "--help"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("hubctl ", ["hubctl", ""]),
        ("hubctl get", ["hubctl", "get"]),
        ("hubctl get 'https://h", ["hubctl", "get", "https://h"]),
        ('hubctl get "a b', ["hubctl", "get", "a b"]),
        ("hubctl get a\\", ["hubctl", "get", "a\\"]),
        ("hubctl get 'a' ", ["hubctl", "get", "a", ""]),
    ],
)
def test_a_line_is_cut_as_the_shell_cuts_it_quotes_open_or_not(line: str, expected: list[str]) -> None:
    assert split(line) == expected


def test_bash_gets_the_part_behind_its_last_break_quoted(capsys: pytest.CaptureFixture[str]) -> None:
    answer(["bash", "hubctl ls --filter", BREAKS], {})
    answer(["bash", "hubctl ls --sort=u", BREAKS], {})
    answer(["bash", "hubctl ls --filter siz", BREAKS], {})
    assert capsys.readouterr().out.splitlines() == ["--filter", "used", "size\\>"]


@pytest.mark.parametrize(("shell", "check"), [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")])
def test_the_scripts_are_what_their_shells_understand(shell: str, check: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    (tmp_path / "script").write_text(script(shell))
    environ = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    done = subprocess.run([shell, check, tmp_path / "script"], capture_output=True, env=environ, timeout=30)
    assert (done.returncode, done.stderr) == (0, b"")

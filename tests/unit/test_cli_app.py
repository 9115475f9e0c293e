"""hubctl's arguments, options and help."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

import hubclient
from hubclient.cli.app import app

# fmt: off
COMMANDS = (
    "doctor", "exec", "get", "ls", "pack", "pin", "prefetch", "prune", "rm", "run", "show", "status", "top", "unpin",
    "verify", "lock", "sync", "fleet status", "fleet ls", "fleet push", "fleet prune",
)
# fmt: on


def run(*arguments: str, columns: int = 100) -> tuple[int, str, str]:
    result = CliRunner(env={"COLUMNS": str(columns), "TERM": "dumb"}).invoke(app, arguments, prog_name="hubctl")
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_teaches_by_examples(command: str) -> None:
    code, text, _ = run(*command.split(), "--help")
    assert code == 0
    assert "Examples:" in text
    assert f"   hubctl {command}" in text
    assert "--json" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_breaks_lines_where_the_terminal_ends(command: str) -> None:
    about, _, rest = run(*command.split(), "--help", columns=2000)[1].partition("Examples:")
    assert [part for part in re.split(r"\n\s*\n", about.strip()) if "\n" in part] == []
    examples = [line.strip() for line in rest.partition("╭")[0].splitlines() if line.startswith("   ")]
    assert [line for line in examples if len(line) > 75] == [], "they must stay whole in 80 columns"


def test_the_help_names_every_command_and_the_exit_codes() -> None:
    code, text, _ = run("--help")
    assert code == 0
    assert all(f" {command.split()[0]} " in text for command in COMMANDS)
    assert "3 no daemon, 4 not found upstream, 130" in text


@pytest.mark.parametrize("arguments", [[], ["fleet"], *(command.split() for command in COMMANDS)], ids=str)
def test_the_help_shows_no_type_for_what_takes_no_value(arguments: list[str]) -> None:
    assert "bool" not in run(*arguments, "--help")[1]


def test_the_version_is_the_clients() -> None:
    assert run("--version") == (0, f"hubctl {hubclient.__version__}\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ["get"],
        ["get", "--refesh", "https://h.example/m/1"],
        ["get", "--refresh", "--offline", "https://h.example/m/1"],
        ["get", "--digest", "abc", "https://h.example/m/1"],
        ["ls", "--sort", "colour"],
        ["help", "frob"],
        ["ls", "--limit", "0"],
        ["ls", "-q", "--json"],
        ["status", "more"],
        ["top", "--interval", "2"],
        ["top", "--interval", "0s"],
        ["prefetch"],
        ["show"],
        ["show", "a", "b"],
        ["show", "--holders", "--files", "a"],
        ["exec"],
        ["exec", "https://h.example/m/1"],
        ["exec", "https://h.example/m/1", "--"],
        ["exec", "--", "true"],
        ["rm"],
        ["pin"],
        ["unpin"],
        ["prune"],
        ["prune", "--yes"],
        ["prune", "--older-than", "30"],
        ["prune", "--older-than", "30d"],
        ["prune", "--to-size", "1 parsec", "--yes"],
        ["prune", "--to-size", "1GB", "--json"],
        ["verify"],
        ["verify", "--all", "https://h.example/m/1"],
        ["fetch"],
        ["fleet", "push"],
        ["fleet", "prune"],
        ["fleet", "prune", "--older-than", "90"],
        ["fleet", "prune", "--older-than", "90d"],
        ["fleet", "prune", "--older-than", "90d", "--json"],
        ["fleet", "ls", "-q", "--json"],
        ["sync", "a.lock", "--lock", "b.lock"],
        ["completion"],
        ["completion", "tcsh"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_2_and_says_so_on_stderr(arguments: list[str]) -> None:
    code, out, said = run(*arguments)
    assert (code, out) == (2, "")
    assert "hubctl" in said


def test_without_typer_it_says_what_to_install() -> None:
    # -S leaves out site-packages: the standard library and hubclient are all that is there.
    client = os.path.dirname(os.path.dirname(hubclient.__file__))
    script = f"import sys; sys.path.insert(0, {client!r}); from hubclient.cli import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", script, "ls"], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "hubctl: typer and rich are not installed: pip install 'hubclient[cli]'\n"

"""`hubctl help`: its topics say what is so, and whoever asks for something else is told what there is."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from hubclient.cli import helping
from hubclient.cli.app import app
from hubclient.cli.checks.variables import KNOWN
from hubclient.contract import places
from hubclient.contract.errors import BY_CODE
from tests.support.hubctl_calls import complaint

TOPICS = helping.topics()


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner(env={"COLUMNS": "100", "TERM": "dumb"}).invoke(app, arguments, prog_name="hubctl")
    return result.exit_code, result.stdout, result.stderr


def test_help_lists_every_topic_with_its_title() -> None:
    code, text, _ = run("help")
    assert code == 0
    assert {"handles", "cache", "service", "environment", "exit-codes", "prefetch", "locking", "credentials"} < set(
        TOPICS
    )
    for topic in TOPICS:
        assert re.search(rf"^  {topic} +{re.escape(helping.title_of(topic))}$", text, re.MULTILINE)


@pytest.mark.parametrize("topic", TOPICS)
def test_a_topic_fits_80_columns_and_names_what_hubctl_has(topic: str) -> None:
    code, text, said = run("help", topic)
    assert (code, said) == (0, "")
    lines = text.splitlines()
    assert max(map(len, lines)) < 80
    assert lines[1] == ""
    calls = re.findall(r"^    (hubctl .*)$|`(hubctl [^`]+)`", helping.text_of(topic), re.MULTILINE)
    named = [first or second for first, second in calls]
    assert [told for call in named if (told := complaint(call)) is not None] == []
    topics = [match[1] for call in named if (match := re.fullmatch(r"hubctl help ([a-z-]+)", call))]
    assert set(topics) <= set(TOPICS)


def test_the_topic_of_variables_names_all_that_there_are() -> None:
    text = helping.text_of("environment")
    assert set(re.findall(r"HUBD_[A-Z_]+[A-Z]", text)) == set(KNOWN)
    assert "TFHUB_CACHE_DIR" in text


def test_the_topic_of_errors_names_every_code() -> None:
    assert set(re.findall(r"^  ([a-z-]+)  ", helping.text_of("errors"), re.MULTILINE)) == set(BY_CODE)


def test_paths_in_topics_are_those_of_the_code() -> None:
    text = "".join(map(helping.text_of, TOPICS))
    assert set(re.findall(r"/(?:run|var)/[\w./]*\w", text)) == {places.SERVICE_DIR, places.SERVICE_CACHE}
    assert places.user_log({"HOME": "/h", "XDG_STATE_HOME": ""}).endswith("/.local/state/hubd/hubd.log")
    assert "~/.local/state/hubd/hubd.log" in text


def test_the_help_of_a_command_comes_either_way() -> None:
    assert run("help", "ls") == run("ls", "--help")


def test_what_is_no_topic_is_wrong_usage_that_names_the_nearest() -> None:
    code, out, said = run("help", "enviroment")
    assert (code, out) == (2, "")
    assert "'environment'" in said
    assert run("help", "xyzzy")[0] == 2
    assert run("help", "--man", "cache")[0] == 2


def test_a_text_longer_than_the_terminal_goes_through_the_pager(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    paged: list[str] = []
    monkeypatch.setattr(helping, "drawable", lambda: True)
    monkeypatch.setattr("pydoc.pager", paged.append)
    monkeypatch.setenv("LINES", "10")
    helping.show("short\n")
    helping.show("long\n" * 10)
    assert (capsys.readouterr().out, paged) == ("short\n", ["long\n" * 10])


# the manual page


def test_the_manual_page_has_every_command_option_and_topic() -> None:
    code, roff, said = run("help", "--man")
    assert (code, said) == (0, "")
    plain = roff.replace("\\-", "-").replace("\\(dq", '"').replace("\\e", "\\")
    group: Any = typer.main.get_group(app)
    of_fleet = [(f"fleet {name}", command) for name, command in group.commands["fleet"].commands.items()]
    assert of_fleet
    for name, command in (*group.commands.items(), *of_fleet):
        assert re.search(f'^.SS "hubctl {name}[ "]', plain, re.MULTILINE)
        for option in (name for param in command.params for name in param.opts if name.startswith("-")):
            assert f"\\fB{option}\\fR" in plain
    for topic in TOPICS:
        assert f'.SH "{helping.title_of(topic).upper()}"' in plain


def test_the_manual_page_is_what_man_understands() -> None:
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed")
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-z"],
        input=run("help", "--man")[1],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, "")

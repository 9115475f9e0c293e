"""The log: what an entry looks like for people, for the journal and for programs, and that nobody can forge one."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hubd import logs
from hubd.config import LogSettings

TEXT, JSON = LogSettings(), LogSettings(format="json")
FIELDS: dict[str, Any] = {
    "fields": {"handle": "https://h/m/1", "seconds": 1.25, "detail": "no turn", "is": True, "gone": None}
}


@pytest.fixture(autouse=True)
def root() -> Iterator[logging.Logger]:
    """The root logger, which is put back as it was."""
    logger = logging.getLogger()
    level, handlers = logger.level, logger.handlers[:]
    quiet = [logging.getLogger(name) for name in ("aiohttp.server", "watchfiles")]
    levels = [one.level for one in quiet]
    yield logger
    logger.setLevel(level)
    logger.handlers[:] = handlers
    for one, before in zip(quiet, levels, strict=True):
        one.setLevel(before)


def logged(settings: LogSettings, message: str, *, in_journal: bool, level: int = logging.INFO, **more: Any) -> str:
    record = logging.LogRecord("hubd.test", level, __file__, 1, message, (), None)
    vars(record).update(more)
    return logs.formatter(settings, in_journal=in_journal).format(record)


def test_fields_follow_the_text() -> None:
    line = logged(TEXT, "fetch ended", in_journal=True, **FIELDS)
    assert line == '<6>hubd.test: fetch ended handle=https://h/m/1 seconds=1.25 detail="no turn" is=true'


def test_lists_and_groups_of_figures_are_one_word_each() -> None:
    fields: dict[str, Any] = {"fields": {"users": [1, 20], "phases": {"queued": 0.5, "connecting": 2.0}}}
    assert logged(TEXT, "x", in_journal=True, **fields).endswith(": x users=1,20 phases=queued:0.5,connecting:2")


def test_as_json_an_entry_is_one_object_in_one_line() -> None:
    line = logged(JSON, "two\nlines", in_journal=False, level=logging.WARNING, **FIELDS)
    assert "\n" not in line
    told = json.loads(line)
    assert told.pop("at").endswith("+00:00")
    assert told == {
        "level": "warning",
        "logger": "hubd.test",
        "message": "two\nlines",
        "handle": "https://h/m/1",
        "seconds": 1.25,
        "detail": "no turn",
        "is": True,
    }


@pytest.mark.parametrize(
    ("level", "priority"),
    [(logging.DEBUG, 7), (logging.INFO, 6), (logging.WARNING, 4), (logging.ERROR, 3), (logging.CRITICAL, 2), (25, 6)],
)
@pytest.mark.parametrize("settings", [TEXT, JSON])
def test_the_journal_is_told_the_priority(settings: LogSettings, level: int, priority: int) -> None:
    assert logged(settings, "x", in_journal=True, level=level).startswith(f"<{priority}>")


@pytest.mark.parametrize("settings", [TEXT, JSON])
def test_for_the_journal_each_line_of_a_traceback_has_its_priority(settings: LogSettings) -> None:
    try:
        raise ValueError("first\nsecond \x1b[31m")
    except ValueError:
        text = logged(settings, "it failed", in_journal=True, level=logging.ERROR, exc_info=sys.exc_info())
    lines = text.split("\n")
    assert all(line.startswith("<3>") for line in lines)
    assert (len(lines) == 1) == (settings is JSON)
    assert "Traceback" in text
    assert "second" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("in_journal", [False, True])
def test_nobody_can_forge_an_entry(in_journal: bool) -> None:
    evil = "x\r\n2026-11-27 00:00:00,000 ERROR hubd: all is lost\x1b[2J\u2028y"
    first, *others = logged(TEXT, evil, in_journal=in_journal, fields={"detail": f"{evil}\n<0>z"}).split("\n")
    assert "hubd.test: x\\x0d" in first
    assert [line.removeprefix("<6>")[:2] for line in others] == ["  "]


@pytest.mark.parametrize("in_journal", [False, True])
def test_nor_by_the_text_of_an_error(in_journal: bool) -> None:
    try:
        raise ValueError("x\n2026-11-27 00:00:00,000 ERROR hubd: all is lost")
    except ValueError:
        text = logged(TEXT, "it failed", in_journal=in_journal, exc_info=sys.exc_info())
    _, *others = text.split("\n")
    assert "all is lost" in others[-1]
    assert {line.removeprefix("<6>")[:2] for line in others} == {"  "}
    assert not any(character in "".join(others) for character in "\r\x1b\u2028")


def test_other_settings_hold_from_the_moment_when_they_are_applied(root: logging.Logger) -> None:
    stream, before = io.StringIO(), len(root.handlers)
    log = logging.getLogger("hubd.test")
    logs.apply(TEXT, stream)
    log.debug("too fine")
    log.info("as text")
    logs.apply(LogSettings(format="json", level="debug"), stream)
    log.debug("as json")
    text, second = stream.getvalue().splitlines()
    assert text.endswith(" INFO hubd.test: as text")
    assert json.loads(second)["message"] == "as json"
    assert len(root.handlers) == before + 1


def test_the_journal_is_recognised_by_the_stream_itself(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as stream:
        status = os.fstat(stream.fileno())
        assert logs.leads_to_journal(stream, {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"})
        assert not logs.leads_to_journal(stream, {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino + 1}"})
        assert not logs.leads_to_journal(stream, {})
    assert not logs.leads_to_journal(stream, {"JOURNAL_STREAM": "1:2"})
    assert not logs.leads_to_journal(io.StringIO(), {"JOURNAL_STREAM": "1:2"})


def test_why_the_daemon_does_not_start_is_an_error_in_the_journal(tmp_path: Path) -> None:
    bad = tmp_path / "hubd.toml"
    bad.write_text("[log]\nlevels = 1\n[limits]\narchives = 3\n")
    bad.chmod(0o600)
    program = (
        "import os, sys; status = os.fstat(2); os.environ['JOURNAL_STREAM'] = f'{status.st_dev}:{status.st_ino}'\n"
        f"from hubd.__main__ import main; sys.exit(main(['run', '--config', {str(bad)!r}]))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 2
    first, second = ran.stderr.splitlines()
    assert first.startswith(f"<3>hubd: {bad}: ")
    assert second.startswith(f"<3>{bad}: ")


def test_a_program_whose_stderr_is_the_journals_logs_for_it() -> None:
    program = (
        "import os, logging; status = os.fstat(2); os.environ['JOURNAL_STREAM'] = f'{status.st_dev}:{status.st_ino}'\n"
        "from hubd import logs; from hubd.config import LogSettings\n"
        "logs.apply(LogSettings()); logging.getLogger('a').warning('b')"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stderr == "<4>a: b\n"

"""A trouble that lasts is told once."""

from __future__ import annotations

import errno
import logging

import pytest

from hubd.fetching.troubles import Troubles
from hubd.store.disk import from_os_error

log = logging.getLogger("troubles")


def failure(number: int, path: str) -> Exception:
    try:
        raise from_os_error(OSError(number, "no", path), "writing") from OSError(number, "no", path)
    except Exception as error:
        return error


def test_a_trouble_is_told_when_it_begins_when_it_changes_and_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    troubles = Troubles(log)
    troubles.over("a")
    for number, path in ((errno.EROFS, "/one"), (errno.EROFS, "/other"), (errno.EIO, "/one"), (errno.EIO, "/one")):
        troubles.met("a", failure(number, path))
    troubles.met("b", failure(errno.EROFS, "/one"))
    troubles.over("a")
    troubles.over("a")
    troubles.met("a", failure(errno.EIO, "/one"))
    levels = [record.levelname for record in caplog.records]
    assert levels == ["WARNING", "WARNING", "WARNING", "INFO", "WARNING"]
    assert "read-only" in caplog.records[0].getMessage()
    assert "the disk has an error" in caplog.records[1].getMessage()


def test_a_mistake_of_our_own_comes_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    troubles = Troubles(log)
    for _ in range(3):
        troubles.met("a", KeyError("x"))
    (record,) = caplog.records
    assert record.exc_info is not None

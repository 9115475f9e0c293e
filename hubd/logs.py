"""The daemon's log on stderr: for people, for the journal, or for programs.

Law: an entry is what the daemon said, and nothing that a server or a user sent can pose as one. Control characters are
shown escaped, and further lines of an entry are indented or, for the journal, marked with its priority.

What a call logs beside its text goes as ``extra={"fields": {...}}``: ``key=value`` after the text, or members in JSON.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from hubd.config import LogSettings

# Syslog's numbers (sd-daemon(3)).
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if code not in (0x09, 0x0A)}
_CONTROL |= {0x2028: "\\u2028", 0x2029: "\\u2029"}  # lines end with these for some who read them
_PLAIN = re.compile(r'[^\s"=\\]+')


def apply(settings: LogSettings, stream: TextIO | None = None) -> None:
    """Logs as these settings say from now on; called again, as others say. `stream` is stderr unless it is given."""
    stream = stream if stream is not None else sys.stderr
    root = logging.getLogger()
    handler = next((one for one in root.handlers if isinstance(one, _Handler)), None)
    if handler is None or handler.stream is not stream:
        if handler is not None:
            root.removeHandler(handler)
        handler = _Handler(stream)
        root.addHandler(handler)
    handler.setFormatter(formatter(settings, in_journal=leads_to_journal(stream, os.environ)))
    root.setLevel(settings.level.upper())
    # It reports what clients sent with a stack trace each; answers tell them already.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    # It tells of every change that it sees, the daemon's own included.
    logging.getLogger("watchfiles").setLevel(logging.WARNING)


def complain(error: Exception) -> None:
    """Says on stderr why the daemon does not start, which may be that no settings say how to log. To the journal it is
    an error."""
    mark = f"<{_PRIORITIES[logging.ERROR]}>" if leads_to_journal(sys.stderr, os.environ) else ""
    print("\n".join(f"{mark}{line}" for line in f"hubd: {error}".split("\n")), file=sys.stderr)


def leads_to_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether it is the stream that ``JOURNAL_STREAM`` names (systemd.exec(5)): a child may have inherited the variable
    and not the stream."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False  # closed, or no file at all
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def formatter(settings: LogSettings, *, in_journal: bool) -> logging.Formatter:
    """What makes lines of records. The journal stamps lines itself and takes their priority from a prefix."""
    lines = _Json() if settings.format == "json" else _Text(stamped=not in_journal)
    return _Prioritized(lines) if in_journal else lines


class _Handler(logging.StreamHandler[TextIO]):
    """The one that `apply` has put there."""


class _Text(logging.Formatter):
    def __init__(self, *, stamped: bool) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: " if stamped else "%(name)s: ")

    def formatMessage(self, record: logging.LogRecord) -> str:
        fields = [f"{name}={_shown(value)}" for name, value in _fields(record).items()]
        return _indented(" ".join([super().formatMessage(record) + record.message, *fields]))

    def formatException(self, ei: Any) -> str:
        return _indented("  " + super().formatException(ei))


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told, default=str)


class _Prioritized(logging.Formatter):
    """The lines of another one, each with its priority: the journal makes an entry of each line."""

    def __init__(self, lines: logging.Formatter) -> None:
        super().__init__()
        self._lines = lines

    def format(self, record: logging.LogRecord) -> str:
        # A level between two is at least as grave as the lower one.
        priority = _PRIORITIES[max((level for level in _PRIORITIES if level <= record.levelno), default=logging.DEBUG)]
        return "\n".join(f"<{priority}>{line}" for line in self._lines.format(record).split("\n"))


def _fields(record: logging.LogRecord) -> Mapping[str, Any]:
    fields: Mapping[str, Any] = getattr(record, "fields", {})
    return {name: value for name, value in fields.items() if value is not None}


def _shown(value: object) -> str:
    match value:
        case bool():
            return str(value).lower()
        case float():
            return f"{value:.3f}".rstrip("0").rstrip(".")
        case list() | tuple():
            return ",".join(map(_shown, value))
        case Mapping():
            return ",".join(f"{name}:{_shown(part)}" for name, part in value.items())
    text = str(value)
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def _indented(text: str) -> str:
    return text.translate(_CONTROL).replace("\n", "\n  ")

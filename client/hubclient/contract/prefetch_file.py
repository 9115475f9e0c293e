"""Prefetch files: which modules are wanted before anybody asks for them.

TOML: the daemon reads those in its `prefetch.dir`, ``hubctl prefetch`` those that it is given. Law: a file that is not
understood is refused as a whole, each of its mistakes is named, and none of them repeats a handle, which may hold a
secret.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple, get_args

from hubclient.contract.errors import HandleInvalid
from hubclient.contract.handles import canonical, is_path, key
from hubclient.contract.layout import is_digest
from hubclient.contract.lock_file import Locked
from hubclient.contract.quantities import parse_seconds

MAX_BYTES = 1 << 20
MAX_MODULES = 10_000

Priority = Literal["high", "normal", "low"]
PRIORITIES: tuple[Priority, ...] = get_args(Priority)

_SHORTEST_REFRESH_SECONDS, _LONGEST_REFRESH_SECONDS = 60.0, 3650 * 86400.0
_DAY_MINUTES = 24 * 60
_WINDOW = re.compile(r"(\d\d):([0-5]\d)-(\d\d):([0-5]\d)", re.ASCII)
_SAID_MISTAKES = 5


class Wanted(NamedTuple):
    """One module. Where `content_digest` is given, another archive of that content is as good as that of `digest`."""

    handle: str  # as it is written
    key: str
    digest: str | None = None  # hex sha256 that its archive must have
    content_digest: str | None = None


class Window(NamedTuple):
    """From one time of the day until another, in minutes of local time; over midnight where the end comes first."""

    start_minutes: int
    end_minutes: int


class PrefetchFile(NamedTuple):
    """What a file says. `lock` names a lock file beside it, whose modules are wanted too (`with_lock`)."""

    modules: tuple[Wanted, ...]
    lock: str | None = None
    priority: Priority = "normal"
    refresh_seconds: float | None = None  # how old what the origin said may become
    window: Window | None = None  # when fetches may begin
    pin: bool = False


def parse(data: bytes) -> PrefetchFile:
    """The file of these bytes. Raises `ValueError`, which names the mistakes."""
    if len(data) > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES} bytes")
    try:
        document = tomllib.loads(data.decode())
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"it is no TOML: {error}") from None
    reader = _Reader()
    found = reader.read(document)
    if not reader.mistakes:
        return found
    more = len(reader.mistakes) - _SAID_MISTAKES
    said = [*reader.mistakes[:_SAID_MISTAKES], *([f"and {more} more mistakes"] if more > 0 else [])]
    raise ValueError("; ".join(said))


def with_lock(file: PrefetchFile, locked: Iterable[Locked]) -> PrefetchFile:
    """The file with the modules of its lock file. Raises `ValueError`."""
    more = [Wanted(one.handle, key(one.handle), one.digest, one.content_digest) for one in locked]
    return file._replace(modules=tuple(merged([*file.modules, *more])))


def merged(modules: Iterable[Wanted]) -> list[Wanted]:
    """Each module once, with the digest that one of its mentions demands. Raises `ValueError` where two differ."""
    by_key: dict[str, Wanted] = {}
    for one in modules:
        there = by_key.get(one.key)
        if there is not None and None not in (there.digest, one.digest) and there.digest != one.digest:
            raise ValueError(f"{_loggable(one.handle)} is wanted with two different digests")
        if there is None or (there.digest is None and one.digest is not None):
            by_key[one.key] = one
    if len(by_key) > MAX_MODULES:
        raise ValueError(f"it wants {len(by_key)} modules, and may want {MAX_MODULES}: write several files")
    return list(by_key.values())


def hex_digest(text: object) -> str:
    """A digest as lock files and prefetch files state it. Raises `ValueError`."""
    digest = text.removeprefix("sha256:") if isinstance(text, str) else ""
    if not is_digest(digest):
        raise ValueError("a digest is sha256: and 64 lower-case hex digits")
    return digest


class _Reader:
    """Reads the parts of a document, and notes the mistakes."""

    def __init__(self) -> None:
        self.mistakes: list[str] = []

    def read(self, document: Mapping[str, Any]) -> PrefetchFile:
        self._refuse_unknown(document, ("handles", "module", "lock", "priority", "refresh", "window", "pin"), "")
        if not document.keys() & {"handles", "module", "lock"}:
            self.mistakes.append("it wants no module: state handles, [[module]]s or a lock")
        wanted = self._handles(document.get("handles", [])) + self._modules(document.get("module", []))
        modules: list[Wanted] = self._value({"": wanted}, "", merged, [])
        return PrefetchFile(
            modules=tuple(modules),
            lock=self._value(document, "lock", _lock, None),
            priority=self._value(document, "priority", _priority, "normal"),
            refresh_seconds=self._value(document, "refresh", _refresh, None),
            window=self._value(document, "window", _window, None),
            pin=self._value(document, "pin", _flag, False),
        )

    def _handles(self, stated: Any) -> list[Wanted]:
        if not isinstance(stated, list):
            self.mistakes.append("handles: must be a list, in [brackets]")
            return []
        named = {f"handles, number {number}": handle for number, handle in enumerate(stated, 1)}
        return [one for name in named if (one := self._value(named, name, _wanted, None)) is not None]

    def _modules(self, stated: Any) -> list[Wanted]:
        if not isinstance(stated, list) or not all(isinstance(table, dict) for table in stated):
            self.mistakes.append("module: write [[module]]")
            return []
        found = []
        for number, table in enumerate(stated, 1):
            name = f"module, number {number}"
            self._refuse_unknown(table, ("handle", "digest"), f"{name}: ")
            one: Wanted | None = self._value({name: table.get("handle")}, name, _wanted, None)
            digest: str | None = self._value(table, "digest", hex_digest, None, f"{name}: ")
            if one is not None:
                found.append(one._replace(digest=digest))
        return found

    def _value(
        self, table: Mapping[str, Any], name: str, read: Callable[[Any], Any], default: Any, prefix: str = ""
    ) -> Any:
        if name not in table:
            return default
        try:
            return read(table[name])
        except (ValueError, HandleInvalid) as error:
            self.mistakes.append(f"{prefix}{f'{name}: ' if name else ''}{error}")
            return default

    def _refuse_unknown(self, table: Mapping[str, Any], known: Iterable[str], prefix: str) -> None:
        for name in sorted(table.keys() - set(known)):
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f'; did you mean "{nearest[0]}"?' if nearest else ""
            shown = name[:40].encode("unicode_escape").decode()
            self.mistakes.append(f'{prefix}unknown key "{shown}"{hint}')


def _wanted(handle: Any) -> Wanted:
    if not isinstance(handle, str):
        raise ValueError("a handle is a URL in quotes")
    if is_path(handle):
        raise ValueError("this is a path: there is nothing to fetch")
    return Wanted(handle, key(canonical(handle)))


def _lock(name: Any) -> str:
    if not isinstance(name, str) or not name or "/" in name or name in (".", "..") or not name.isprintable():
        raise ValueError("a lock file lies beside the prefetch file, and is named without a directory")
    return name


def _priority(text: Any) -> Priority:
    if text not in PRIORITIES:
        raise ValueError('must be "high", "normal" or "low"')
    found: Priority = text
    return found


def _refresh(text: Any) -> float:
    seconds = parse_seconds(text)
    if not _SHORTEST_REFRESH_SECONDS <= seconds <= _LONGEST_REFRESH_SECONDS:
        raise ValueError('must be between "1min" and "3650d"')
    return seconds


def _window(text: Any) -> Window:
    match = _WINDOW.fullmatch(text) if isinstance(text, str) else None
    minutes = [60 * int(hours) + int(rest) for hours, rest in (match.groups()[:2], match.groups()[2:])] if match else []
    if (
        not minutes
        or minutes[0] >= _DAY_MINUTES
        or minutes[1] > _DAY_MINUTES
        or minutes[0] == minutes[1] % _DAY_MINUTES
    ):
        raise ValueError('a window is like "01:00-05:00", in local time; "22:00-06:00" goes over midnight')
    return Window(minutes[0], minutes[1] % _DAY_MINUTES)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _loggable(handle: str) -> str:
    return handle.partition("?")[0]

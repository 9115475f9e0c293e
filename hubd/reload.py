"""The configuration while the daemon serves: noticed when its file changes, asked for by SIGHUP.

Law: a configuration is taken as a whole or not at all. One that cannot be used leaves that which holds, and says so
until it is mended; what takes a restart is named, and the rest holds at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pydantic import BaseModel

from hubd import config
from hubd.config import ConfigError, Place, Settings

log = logging.getLogger(__name__)

_LOOK_SECONDS = 1.0

#: What is used once, at start. Where the cache and the socket are is told by `Place`.
_AT_START = frozenset({"cache.allow_network_filesystem"})

Stamp = tuple[int, ...] | None  # of a file; None: there is none


@dataclass(frozen=True)
class Source:
    """Where the settings come from: the file at `path`, which may be missing unless it was named; the environment; and
    what the command line says of the place."""

    path: str
    is_named: bool
    user: bool
    environ: Mapping[str, str] = field(repr=False)
    cache_dir: str | None = None
    socket: str | None = None

    def load(self) -> tuple[Settings, Place]:
        """Raises `ConfigError`."""
        file = self.path if self.is_named or os.path.lexists(self.path) else None
        settings = config.with_environ(config.load(file, user=self.user), self.environ)
        place = config.locate(settings, self.environ, user=self.user, cache_dir=self.cache_dir, socket=self.socket)
        return settings, place


@dataclass(frozen=True)
class ConfigState:
    """What is to be known of the configuration. `problem`: why the file is not what holds, if so."""

    file: str | None
    loaded_at: datetime
    problem: str | None = None
    restart_needed: tuple[str, ...] = ()
    reloads: int = 0
    failures: int = 0

    def warnings(self) -> list[str]:
        found = []
        if self.problem is not None:
            found.append(
                f"the configuration was not taken, and the one of {self.loaded_at:%F %T} UTC holds: {self.problem}"
            )
        if self.restart_needed:
            found.append(f"changed in {self.file}, but takes a restart: {', '.join(self.restart_needed)}")
        return found


class Reloader:
    """Watches the file, and has new settings applied. `state` tells how that went.

    `apply` makes settings hold, as a whole or not at all; it may raise `ConfigError`. `told` hears of each attempt.
    """

    def __init__(
        self,
        source: Source,
        settings: Settings,
        place: Place,
        apply: Callable[[Settings], Awaitable[None]],
        told: Callable[[ConfigState], None] = lambda _: None,
        look_seconds: float = _LOOK_SECONDS,
    ) -> None:
        self._source = source
        self._started = settings
        self._place = place
        self._now = settings
        self._apply = apply
        self._told = told
        self._look_seconds = look_seconds
        self._asked = asyncio.Event()
        self._stamp = stamp(source.path)
        file = source.path if self._stamp is not None else None
        self.state = ConfigState(file, datetime.now(UTC))

    def ask(self) -> None:
        """Reload now, whether the file changed or not: files that it names may have."""
        self._asked.set()

    async def run(self) -> None:
        """Never ends by itself."""
        if await asyncio.to_thread(self._is_outdated):
            self.ask()
        seen = self._stamp
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._look_seconds):
                    await self._asked.wait()
            asked, before = self._asked.is_set(), seen
            self._asked.clear()
            # In a thread: the file may lie in a home directory whose server does not answer.
            seen = await asyncio.to_thread(stamp, self._source.path)
            # A file that is just being written looks otherwise at the next look.
            if asked or (seen == before and seen != self._stamp):
                self._stamp = seen
                await self._reload()

    def _is_outdated(self) -> bool:
        """Whether the file was saved between its first reading and this object's first look: a start takes a while."""
        try:
            return self._source.load()[0] != self._now
        except Exception:
            return True  # a reload says why

    async def _reload(self) -> None:
        path, before = self._source.path, self.state
        try:
            if self._stamp is None and before.file is not None:
                raise ConfigError(f"{path} is gone; a restart would go by the defaults")
            settings, place = await asyncio.to_thread(self._source.load)
            await self._apply(settings)
        except ConfigError as error:
            problem = str(error)
        except Exception as error:
            log.exception("the configuration could not be applied")
            problem = f"it could not be applied ({type(error).__name__}); the log has the reason"
        else:
            changed = changed_keys(self._now, settings)
            self._now = settings
            restart = needs_restart(self._started, settings, self._place, place)
            file = path if self._stamp is not None else None
            self.state = ConfigState(file, datetime.now(UTC), None, restart, before.reloads + 1, before.failures)
            log.info("configuration reloaded from %s; changed: %s", path, ", ".join(changed) or "nothing")
            if restart:
                log.warning("%s", self.state.warnings()[-1])
            self._told(self.state)
            return
        log.error("the configuration was not taken, and the old one holds: %s", problem)
        self.state = ConfigState(
            before.file, before.loaded_at, problem, before.restart_needed, before.reloads, before.failures + 1
        )
        self._told(self.state)


def stamp(path: str) -> Stamp:
    """Changes whenever the file does, by writing, renaming, or where a link leads."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size, status.st_uid, status.st_mode


def changed_keys(before: Settings, after: Settings) -> list[str]:
    """Which settings differ, as "section.name"; of lists of sections, the section."""
    found = []
    for section in Settings.model_fields:
        one, other = getattr(before, section), getattr(after, section)
        if isinstance(one, BaseModel):
            names = type(one).model_fields
            found += [f"{section}.{name}" for name in names if getattr(one, name) != getattr(other, name)]
        elif one != other:
            found.append(section)
    return found


def needs_restart(started: Settings, now: Settings, started_at: Place, now_at: Place) -> tuple[str, ...]:
    """Of the settings that hold since the start, those that the configuration now wants otherwise."""
    found = [key for key in changed_keys(started, now) if key in _AT_START]
    if now_at.cache != started_at.cache:
        found.append("cache.dir")
    if now_at.socket != started_at.socket:
        found.append("api.socket")
    return tuple(sorted(found))

"""The modules in a directory, while it is served: a snapshot that follows what comes and goes.

Law: a name is looked up in what the last scan found, and never on the disk; so no name leads out of the library.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping

import watchfiles

from hubd.publishing.scanning import Model, Scan, Unsettled, Version

__all__ = ["Library", "Model", "Version"]

log = logging.getLogger(__name__)

_QUIET_SECONDS = 1.0
_STEP_MS = 200  # of the thread that collects events; as long as nothing more must have changed, too
_DEBOUNCE_MS = 1600
_FULL_LOOK_SECONDS = 60.0  # for what events do not tell: another machine's changes, a full queue
_SWEEP_SECONDS = 5.0


class Library:
    """`scan` once, then `watch`. What it knows is a snapshot, to be asked from any thread."""

    def __init__(self, root: str | os.PathLike[str], *, quiet_seconds: float = _QUIET_SECONDS) -> None:
        """`quiet_seconds`: so long has nothing been written to a version when it appears."""
        self.root = os.path.realpath(root)
        self._quiet_seconds = quiet_seconds
        self._models: Mapping[str, Model] = {}
        self._unsettled: Mapping[str, Unsettled] = {}
        self._complaints: dict[str, str] = {}

    def models(self) -> tuple[Model, ...]:
        """All of them, by name."""
        return tuple(self._models.values())

    def find(self, name: str) -> Model | None:
        return self._models.get(name)

    def scan(self) -> bool:
        """Look at what is there now; whether something is still being written, which takes another look.

        Blocks; not for two threads at once. Raises `OSError` when the root cannot be read, and keeps what was known.
        """
        look = Scan(self.root, self._models, self._unsettled, self._quiet_seconds)
        look.root()
        for path, (level, complaint) in look.complaints.items():
            if self._complaints.get(path) != complaint:
                log.log(level, "%s %s", os.fsencode(path).decode(errors="backslashreplace"), complaint)
        found = {name: _model(name, look) for name in sorted(look.found)}
        _tell(self._models, found)
        self._complaints = {path: complaint for path, (_, complaint) in look.complaints.items()}
        self._models, self._unsettled = found, look.unsettled
        return bool(look.unsettled)

    async def watch(self, told: Callable[[], None] = lambda: None) -> None:
        """Scan when something changes, and now and then. Never ends by itself. `told` hears of each scan."""
        is_unsettled, looked_at = True, 0.0  # what has changed since the first scan was watched by nobody
        while True:
            async for is_changed in _ticks(self.root, self._quiet_seconds):
                if not (is_changed or is_unsettled or time.monotonic() - looked_at > _FULL_LOOK_SECONDS):
                    continue
                try:
                    is_unsettled = await asyncio.to_thread(self.scan)
                except OSError as error:
                    log.warning("%s cannot be read, and stays as it was: %s", self.root, error.strerror)
                    is_unsettled = True
                looked_at = time.monotonic()
                told()


def _model(name: str, look: Scan) -> Model:
    newest_first = sorted(look.found[name].values(), key=lambda version: -version.number)
    readme_stamp = look.readmes.get(name, "")
    return Model(name, tuple(version._replace(readme_stamp=readme_stamp) for version in newest_first))


def _tell(before: Mapping[str, Model], now: Mapping[str, Model]) -> None:
    old = {one.name: one for model in before.values() for one in model.versions}
    new = {one.name: one for model in now.values() for one in model.versions}
    for name, version in new.items():
        if name not in old:
            log.info("%s is there", name)
        elif old[name].stamp != version.stamp:
            log.warning("%s has changed, which a version must not: clients keep what they have", name)
    for name in old.keys() - new.keys():
        log.info("%s is gone", name)


async def _ticks(root: str, every_seconds: float) -> AsyncIterator[bool]:
    """Goes on when something below the root has changed (True), and every so often (False); ends when it is to be begun
    anew. Where the kernel has no watch left to give, every tick may be a change."""
    inode = _inode(root)
    try:
        async for batch in watchfiles.awatch(
            root,
            watch_filter=None,
            force_polling=False,
            step=_STEP_MS,
            debounce=_DEBOUNCE_MS,
            rust_timeout=int(1000 * every_seconds),
            yield_on_timeout=True,
        ):
            yield bool(batch)
            if _inode(root) != inode:
                break
    except (OSError, RuntimeError) as error:  # the second is the watching library's own
        log.debug("%s is looked at every %.0f s: %s", root, _SWEEP_SECONDS, error)
        await asyncio.sleep(_SWEEP_SECONDS)
        yield True


def _inode(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino

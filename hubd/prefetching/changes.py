"""When to look at a directory again.

Law: events only say when; what is there is found by looking. So a look now and then makes up for all that events do
not tell: a directory that appears, or another one in its place, or a kernel that has no watch left to give.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncGenerator

import watchfiles

log = logging.getLogger(__name__)

_STEP_MS = 500  # of the thread that collects events; as long as nothing more must have changed, too
_DEBOUNCE_MS = 2000
_LOOK_SECONDS = 2.0


async def changes(directory: str | None) -> AsyncGenerator[None]:
    """Goes on when something in the directory has changed, and now and then; ends when it is to be begun anew."""
    inode = _inode(directory)
    if directory is not None and inode is not None:
        try:
            async for _ in watchfiles.awatch(
                directory,
                recursive=False,
                watch_filter=None,
                force_polling=False,
                step=_STEP_MS,
                debounce=_DEBOUNCE_MS,
                rust_timeout=int(1000 * _LOOK_SECONDS),
                yield_on_timeout=True,
            ):
                yield
                if _inode(directory) != inode:
                    return
        except (OSError, RuntimeError) as error:  # the second is the watching library's own
            log.debug("%s is looked at every %.0f s: %s", directory, _LOOK_SECONDS, error)
    await asyncio.sleep(_LOOK_SECONDS)
    yield


def _inode(directory: str | None) -> tuple[int, int] | None:
    if directory is None:
        return None
    try:
        status = os.stat(directory)
    except OSError:
        return None
    return status.st_dev, status.st_ino

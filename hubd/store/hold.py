"""The daemon's hold on its cache, and what ``daemon.lock`` says of it while it lives and after.

Law: ``daemon.lock`` is whole whenever it is read, and locked for as long as its daemon lives; and it never calls
clean what nobody has checked.
"""

from __future__ import annotations

import json
import os
import time
from types import TracebackType

from hubclient.contract import places
from hubclient.contract.lease import Lease
from hubd.store.disk import Disk, read_file, storing
from hubd.store.layout import StoreLayout

_MAX_LOCK_BYTES = 1 << 16
# How far back one looks where nothing says since when: a cache of a hubd that did not write it yet.
_UNKNOWN_SECONDS = 86400.0


def unchecked_since(layout: StoreLayout, now: float) -> float | None:
    """Since when (Unix seconds) what was published is not known to have reached the disk as it should.

    None after an orderly stop, and in a new cache.
    """
    if not os.path.lexists(layout.daemon_lock) and not os.listdir(layout.trees):
        return None
    try:
        said = json.loads(read_file(layout.daemon_lock, _MAX_LOCK_BYTES))
        if said.get("stopped") is True:
            return None
        # A point in the future, of a clock that was wrong, says nothing.
        if 0 < said["clean_point"] <= now:
            return float(said["clean_point"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        pass
    return now - _UNKNOWN_SECONDS


class CacheHold:
    """The daemon's hold on its cache. Closing it, or the end of the process, lets the next daemon have it."""

    def __init__(self, layout: StoreLayout, guard: int, socket: str, disk: Disk) -> None:
        """Takes over `guard`, the lock on ``staging/``, unless it raises `OSError`."""
        self.layout = layout
        self.since = time.time()
        #: What was published since then is to be checked; None when there is no such thing (any more).
        self.unchecked_since = unchecked_since(layout, self.since)
        self._socket = socket
        self._disk = disk
        self._guard = guard
        self._clean_point = self.since if self.unchecked_since is None else self.unchecked_since
        self._lock = self._write(stopped=False)

    @property
    def clean_point(self) -> float:
        """What was published before is right on the disk."""
        return self._clean_point

    def move_clean_point(self, clean_point: float) -> None:
        """All that was published before `clean_point` has been checked, or written by this daemon in good order.

        Raises `DiskFull`, `Internal`; the old point stays then.
        """
        with storing("moving the clean point"):
            self._disk.syncfs(self.layout.root)
            before, self._clean_point = self._clean_point, clean_point
            try:
                lock = self._write(stopped=False)
            except BaseException:
                self._clean_point = before
                raise
        self._lock.release()
        self._lock = lock
        self.unchecked_since = None

    def stop(self) -> None:
        """The daemon stops in good order: nothing works in the cache any more. Raises `DiskFull`, `Internal`."""
        if self.unchecked_since is None:
            with storing("stopping"):
                lock = self._write(stopped=True)
            self._lock.release()
            self._lock = lock

    def close(self) -> None:
        self._lock.release()
        guard, self._guard = self._guard, -1
        if guard >= 0:
            os.close(guard)

    def __enter__(self) -> CacheHold:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, *, stopped: bool) -> Lease:
        daemon: dict[str, object] = {
            "pid": os.getpid(),
            "boot_id": places.boot_id(),
            "socket": self._socket,
            "clean_point": self._clean_point,
        }
        if stopped:
            daemon["stopped"] = True
        temporary = self.layout.new_staging()
        # A new file that takes the old one's name when it is locked and whole: it is never read half-written.
        self._disk.write_file(temporary, json.dumps(daemon).encode() + b"\n", 0o644)
        lock = Lease.exclusive(temporary)
        try:
            self._disk.rename(temporary, self.layout.daemon_lock)
            self._disk.fsync_directory(self.layout.root)
        except BaseException:
            lock.release()
            raise
        return lock

"""Partial downloads: the beginning of an archive, kept in ``staging/`` so that a later fetch can go on from there.

Law: a fetch goes on only after bytes that are surely on the disk as the origin sent them for the validators in
``transfer.json``; and whatever is wrong with a partial costs that partial, and nothing else.
"""

from __future__ import annotations

import logging
import os
import stat
import threading
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from pydantic import ValidationError

from hubclient.contract import places
from hubd.store.disk import Disk, read_file, storing
from hubd.store.layout import StagingLayout, StoreLayout
from hubd.store.ledger import Ledger
from hubd.store.staging import Staging
from hubd.store.transfers import Transfer

_log = logging.getLogger(__name__)

WORTH_BYTES = 256 * 1024  # less is sooner fetched than kept
_MAX_TRANSFER_BYTES = 1 << 16


@dataclass(frozen=True)
class Partial:
    """The beginning of an archive, in its place. A fetch goes on from byte `resume_bytes`."""

    transfer: Transfer
    path: str
    spool_bytes: int
    resume_bytes: int


class KeptPartial(NamedTuple):
    """What is to be known of a partial when room is needed."""

    key: str
    size_bytes: int  # on disk
    updated_at: datetime


class Partials:
    """The partials of one cache that no fetch has claimed, at most one of each handle. Thread-safe."""

    def __init__(
        self,
        layout: StoreLayout,
        ledger: Ledger,
        keep_seconds: float,
        disk: Disk | None = None,
        boot_id: str | None = None,
    ) -> None:
        """`ledger`: that of the trees, where each place in ``staging/`` has its account."""
        self.ledger = ledger
        self._layout = layout
        self.keep_seconds = keep_seconds
        self._disk = disk or Disk()
        self._boot_id = boot_id or places.boot_id()
        self._kept: dict[str, Partial] = {}
        self._changing = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def begun(self, handle: str, etag: str | None, last_modified: str | None, total_bytes: int | None) -> Transfer:
        """What to save of a transfer that begins now. Raises `ValueError` for validators that cannot be kept."""
        return Transfer(
            handle=handle,
            etag=etag,
            last_modified=last_modified,
            total_bytes=total_bytes,
            boot_id=self._boot_id,
            updated_at=datetime.now(UTC),
        )

    def save(self, staging: Staging, transfer: Transfer, frontier_bytes: int) -> None:
        """Make ``[0, frontier_bytes)`` of the spool last, then say so. For a thread; raises `OSError`.

        With 0 nothing is synced: what there is, a kill of the daemon cannot take, and a power cut may.
        """
        place = StagingLayout(staging.path)
        if frontier_bytes:
            self._disk.fdatasync(place.archive)
        data = transfer.reaching(frontier_bytes).model_dump_json(indent=1).encode()
        self._disk.replace_file(place.transfer, data, 0o600, self._layout.new_staging())
        self._disk.fsync_directory(self._layout.staging)

    def keep(self, staging: Staging, transfer: Transfer, frontier_bytes: int) -> bool:
        """Keep the bytes ``[0, frontier_bytes)`` that have arrived, nobody writing any more; False when it is not
        worth it.

        An older partial of the handle goes. For a thread; never raises.
        """
        try:
            size_bytes = min(os.lstat(staging.archive).st_size, frontier_bytes)
            self._disk.truncate(staging.archive, size_bytes)  # what is beyond may have holes
            transfer = transfer.model_copy(update={"sparse": False})
            partial = Partial(transfer.reaching(size_bytes), staging.path, size_bytes, 0)
            if not self._is_worth(partial := self._measured(partial)):
                return False
            staging.strip()
        except FileNotFoundError:
            return False  # nothing has arrived
        except OSError as error:
            _log.warning("cannot keep what arrived in %s: %s", staging.path, error)
            return False
        try:
            self.save(staging, transfer, size_bytes)
        except OSError as error:
            # A full disk, say. This daemon can go on from it all the same; the next one as far as was saved before.
            _log.warning("cannot save what arrived in %s: %s", staging.path, error)
        with suppress(OSError):  # then what was set aside for it stays so
            staging.count()
        self._put(partial)
        return True

    def adopt(self, path: str) -> bool:
        """At start-up: keep what lies there, if it is a partial to go on from. An older one of its handle goes.

        Never raises.
        """
        try:
            found = self._read(path)
            if found is None or not self._is_worth(found):
                return False
            staging = Staging(self._layout, self._disk, self.ledger, path)
            staging.strip()
            staging.count()
        except (OSError, ValueError) as error:
            # Damaged, made by hand, a newer daemon's: in no case more than a download that begins anew.
            _log.warning("%s is no download to go on with: %s", path, error)
            return False
        with self._changing:
            rival = self._kept.get(found.transfer.key)
        if rival is not None and rival.transfer.updated_at > found.transfer.updated_at:
            return False
        self._put(found)
        return True

    def claim(self, key: str) -> Partial | None:
        """Take the handle's partial, to go on from it, and then to `give_back`, `keep` or `discard`.

        Quick enough for the event loop.
        """
        with self._changing:
            partial = self._kept.pop(key, None)
        if partial is None:
            return None
        try:
            status = os.lstat(StagingLayout(partial.path).archive)
        except OSError:
            status = None
        if status is None or not stat.S_ISREG(status.st_mode) or status.st_size != partial.spool_bytes:
            _log.warning("%s is not as it was left", partial.path)
        elif self._is_worth(partial):
            return partial
        self.discard(partial)
        return None

    def staging(self, partial: Partial) -> Staging:
        """The place of a claimed partial, to go on in: its archive has `resume_bytes` bytes. Raises `Internal`."""
        # What is beyond may not be the origin's, and from here on the size of the file has to tell what is.
        with storing("going on with a download"):
            self._disk.truncate(StagingLayout(partial.path).archive, partial.resume_bytes)
        return Staging(self._layout, self._disk, self.ledger, partial.path)

    def give_back(self, partial: Partial) -> None:
        """A claimed partial that was not touched."""
        self._put(partial)

    def discard(self, partial: Partial) -> None:
        """Move a claimed partial to the trash. Never raises."""
        Staging(self._layout, self._disk, self.ledger, partial.path).discard()

    def drop(self, key: str) -> int:
        """Move the handle's partial to the trash, unless a fetch has claimed it: the bytes that frees. Never raises."""
        with self._changing:
            partial = self._kept.pop(key, None)
        if partial is None:
            return 0
        size_bytes = self.ledger.bytes_of(partial.path)
        self.discard(partial)
        return size_bytes

    def all(self) -> list[KeptPartial]:
        """Those that no fetch has claimed, the longest untouched first."""
        with self._changing:
            kept = [(key, partial) for key, partial in self._kept.items()]
        found = [
            KeptPartial(key, self.ledger.bytes_of(partial.path), partial.transfer.updated_at) for key, partial in kept
        ]
        return sorted(found, key=lambda partial: partial.updated_at)

    def expire(self) -> int:
        """Drop those that nobody came back for in time; how many. Never raises."""
        with self._changing:
            old = [key for key, partial in self._kept.items() if self._is_expired(partial)]
        return sum(self.drop(key) > 0 for key in old)

    def _put(self, partial: Partial) -> None:
        with self._changing:
            other = self._kept.pop(partial.transfer.key, None)
            self._kept[partial.transfer.key] = partial
        if other is not None:
            self.discard(other)

    def _read(self, path: str) -> Partial | None:
        """None for what is no partial at all. Raises `OSError`, and `ValueError` for a damaged one."""
        place = StagingLayout(path)
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            return None
        try:
            transfer = Transfer.model_validate_json(read_file(place.transfer, _MAX_TRANSFER_BYTES))
        except FileNotFoundError:
            return None
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        status = os.lstat(place.archive)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{place.archive} is no file")
        return self._measured(Partial(transfer, path, status.st_size, 0))

    def _measured(self, partial: Partial) -> Partial:
        resume_bytes = partial.transfer.resume_bytes(partial.spool_bytes, self._boot_id)
        return Partial(partial.transfer, partial.path, partial.spool_bytes, resume_bytes)

    def _is_worth(self, partial: Partial) -> bool:
        total_bytes = partial.transfer.total_bytes
        # More than the whole: then these are not its bytes.
        fits = total_bytes is None or partial.spool_bytes <= total_bytes
        return fits and partial.resume_bytes >= WORTH_BYTES and not self._is_expired(partial)

    def _is_expired(self, partial: Partial) -> bool:
        # A time to come is a clock's mistake, and must not keep a partial for good.
        age = datetime.now(UTC) - partial.transfer.updated_at
        return abs(age.total_seconds()) >= self.keep_seconds

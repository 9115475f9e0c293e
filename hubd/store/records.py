"""Handle records, and the views of them that need no daemon: ``handles/<key>`` and ``tfhub/<sha1>``.

Law: the record is the truth and is written first and removed last; a view only repeats what it says. Who may enter a
tree follows what its records say, before anybody is told of it.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import stat
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from hubclient.contract import handles
from hubclient.contract.layout import digest_of_target, is_digest, target_of_digest
from hubd.store import acl
from hubd.store.catalog import Catalog, Entry
from hubd.store.disk import Disk, from_os_error, read_file, storing
from hubd.store.layout import StoreLayout, digest_of_tfhub_target, tfhub_target
from hubd.store.manifest import Sha256, SizeBytes
from hubd.store.readers import readers_of, record_key, to_be_named

_log = logging.getLogger(__name__)

MAX_SPELLINGS = 16
_MAX_RECORD_BYTES = 1 << 20
_MOST_PARSED = 512  # records that are kept as they were read, some kilobytes each
_FOR_EVER = float(2**31 - 1)  # the year 2038: the latest time that every file system can store; 0 is the earliest
_RECORD_SUFFIX = ".json"

_Version = tuple[int, ...]  # of a file: another whenever anybody has written to it, or put another in its place


def _in_utc(at: datetime) -> datetime:
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise ValueError("a time beyond the years 1 to 9999") from None


def _newest(spellings: tuple[str, ...]) -> tuple[str, ...]:
    newest_first = dict.fromkeys(reversed(spellings))
    return tuple(reversed(list(newest_first)[:MAX_SPELLINGS]))


class Record(BaseModel):
    """What the cache knows of a handle. Fields that it does not know (a newer version's) are ignored."""

    model_config = ConfigDict(frozen=True)

    handle: str = Field(description="canonical")
    spellings: Annotated[tuple[str, ...], AfterValidator(_newest)] = Field(
        description="as asked for, each once, the newest last; the oldest go when there are too many"
    )
    digest: Sha256
    size_bytes: SizeBytes
    file_count: int = Field(default=0, ge=0, description="of the module; 0: unknown")
    etag: str | None = None
    last_modified: str | None = None
    final_host: str | None = None
    fetched_at: Annotated[AwareDatetime, AfterValidator(_in_utc)] = Field(
        description="when the origin last confirmed or sent this content"
    )
    immutable: bool
    pinned: bool = False
    reader: int | None = Field(default=None, ge=0, description="the uid that it is for; null: everyone")
    granted_until: Annotated[AwareDatetime, AfterValidator(_in_utc)] | None = Field(
        default=None, description="until when the origin need not be asked whether that user may have it"
    )
    salt: str = Field(default="", description="of a private one's key")
    final_url: str | None = Field(default=None, description="where a private one came from, without a query")

    @property
    def key(self) -> str:
        return _key_of(self.handle, self.reader, self.salt)

    def with_spelling(self, spelling: str) -> Record:
        """The same record with this spelling as the newest."""
        return self.model_copy(update={"spellings": _newest((*self.spellings, spelling))})


@lru_cache(maxsize=_MOST_PARSED)
def _key_of(handle: str, reader: int | None, salt: str) -> str:
    return record_key(handles.key(handle), reader, salt)


class _View(NamedTuple):
    path: str
    target: str
    mtime: float | None  # None: it may be any


class Records:
    """The records of one cache. `get`, `touch` and `last_used` are quick enough for the event loop. Thread-safe.

    `catalog` has what `load` and every write since have put there.
    """

    def __init__(self, layout: StoreLayout, disk: Disk | None = None) -> None:
        self.layout = layout
        self.catalog = Catalog()
        self._disk = disk or Disk()
        self._salt: str | None = None
        self._parsed: dict[str, tuple[_Version, Record]] = {}  # the oldest first
        self._parsing = threading.Lock()
        # Held while a record and its views change: recovery mends views while the daemon already writes new ones.
        self._changing = threading.Lock()

    def get(self, key: str) -> Record | None:
        """The record, None when there is none; a damaged one is as good as none. Raises `Internal`."""
        try:
            return self._read(key)
        except ValueError as error:
            _log.warning("damaged record %s: %s", self.layout.record(key), error)
            return None

    def put(self, record: Record, *, direct_until: float) -> None:
        """Write the record, then its views. The tree must be published, and held by a lease.

        `direct_until` is when, in unix seconds, clients stop answering from the view without the daemon.
        Raises `DiskFull`, `Internal`; the record may be written then, and views wrong that `mend_views` puts right.
        """
        with storing("recording a module"), self._changing:
            self._write(self.get(record.key), record, direct_until)

    def load(self, key: str) -> Record | None:
        """`get`, with the catalog brought up to what is there."""
        with self._changing:
            record = self.get(key)
            self._note(key, record)
            return record

    def amend(
        self,
        key: str,
        change: Callable[[Record | None], Record | None],
        direct_until: Callable[[Record], float],
        *,
        is_use: bool = True,
    ) -> Record | None:
        """Change what is recorded of a handle, as one step: no write of another thread is lost.

        `change` gets the record that is there and gives the new one; None leaves all as it is. A tree that is newly
        named must be published, and held by a lease. `is_use`: whether this counts as a use of the module.
        Raises `DiskFull`, `Internal`.
        """
        with storing("recording a module"), self._changing:
            before = self.get(key)
            after = change(before)
            if after is not None and after != before:
                last_used = None if is_use else self.last_used(key)
                self._write(before, after, direct_until(after), last_used)
            return after

    def salt(self) -> str:
        """The salt of private records' keys, made on its first use. Raises `DiskFull`, `Internal`."""
        with storing("recording a private module"), self._changing:
            if self._known_salt() is None:
                salt = secrets.token_hex(32)
                self._disk.replace_file(self.layout.salt, salt.encode(), 0o600, self.layout.new_staging())
                self._salt = salt
        assert self._salt is not None
        return self._salt

    def own_key(self, key: str, uid: int) -> str | None:
        """The key of a user's own record of the handle of this key; None while nothing private was ever recorded."""
        salt = self._known_salt()
        return record_key(key, uid, salt) if salt is not None else None

    def _known_salt(self) -> str | None:
        if self._salt is None:
            with storing("reading a salt"), suppress(FileNotFoundError, ValueError):
                self._salt = read_file(self.layout.salt, _MAX_RECORD_BYTES).decode("ascii") or None
        return self._salt

    def readers(self, digest: str) -> frozenset[int] | None:
        """The users who may read the tree now, by the records that name it; None: everyone."""
        return readers_of(self.catalog.of_digest(digest), time.time())

    def admit(self, digest: str) -> None:
        """Let those into the tree who may read it, and nobody else. The catalog must be complete.

        A tree that no record names stays as it is. Raises `Internal`, `DiskFull`.
        """
        with storing("letting readers into a module"), self._changing:
            self._admit(digest)

    def touch(self, key: str) -> bool:
        """The record was used now; False when there is none. Never raises: what cannot be written is known until the
        daemon stops."""
        try:
            self._disk.utime(self.layout.record(key), None)
        except FileNotFoundError:
            return False
        except OSError:
            if self.catalog.get(key) is None:
                return False
        self.catalog.touch(key, time.time())
        return True

    def last_used(self, key: str) -> float | None:
        """When the record was used last, in unix seconds; None when there is none."""
        try:
            # A time to come is a clock's mistake, and must not make it the last to go for years.
            return min(os.lstat(self.layout.record(key)).st_mtime, time.time())
        except OSError:
            return None

    def views_are_right(self, record: Record, *, direct_until: float) -> bool:
        """Whether no view of the record is missing or wrong. Quick enough for the event loop; raises `Internal`."""
        with storing("looking at the views of a module"):
            return not any(map(_is_wrong, self._views(record, direct_until)))

    def mend_views(self, record: Record, *, direct_until: float) -> bool:
        """Put missing or wrong views right; True when there were any.

        Nothing happens for a record that has changed since, or whose tree is gone or withdrawn.
        Raises `DiskFull`, `Internal`.
        """
        with storing("mending the views of a module"):
            if self.views_are_right(record, direct_until=direct_until):
                return False  # as nearly always, and then no write of another thread is waited for
            with self._changing:
                there = self.get(record.key) == record and os.path.lexists(self.layout.tree(record.digest))
                return there and self._mend_views(self._views(record, direct_until))

    def remove(self, key: str) -> None:
        """Remove the views, then the record; a record that is not there is no error. Raises `Internal`."""
        with storing("removing a record"), self._changing:
            self._remove(key)

    def remove_without_tree(self, key: str, *, even_pinned: bool = False) -> bool:
        """Finish an eviction: remove the record, damaged or whole, if no tree is there for it.

        The look and the removal are one step: a fetch that publishes meanwhile writes its record after its tree.
        A pinned record stays, unless it was its module that an administrator removed. True when it was removed.
        """
        with storing("removing a record"), self._changing:
            record = self.get(key)
            if record is not None and (
                (record.pinned and not even_pinned) or os.path.lexists(self.layout.tree(record.digest))
            ):
                return False
            self._remove(key)
            return True

    def withdraw(self, digests: Collection[str]) -> int:
        """Remove the views of these trees, so that everybody asks the daemon; how many there were.

        Reads links alone: quick with ten thousand modules too. Raises `Internal`.
        """
        links = [(self.layout.handle_link(key), digest_of_target) for key in self.linked_keys()]
        views = [(self.layout.tfhub_entry(name), digest_of_tfhub_target) for name in self._names(self.layout.tfhub)]
        withdrawn = 0
        with storing("withdrawing views"), self._changing:
            for path, digest_of in (*links, *views):
                with suppress(FileNotFoundError):
                    if _points_to(path, digest_of) in digests:
                        self._disk.unlink(path)
                        withdrawn += 1
        return withdrawn

    def remove_tfhub_view(self, name: str, seen: os.stat_result) -> bool:
        """Remove a view that no record has, unless it is another by now than the one seen. True when it was removed."""
        path = self.layout.tfhub_entry(name)
        with storing("removing a view"), self._changing:
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                return False
            if (status.st_ino, status.st_ctime_ns) != (seen.st_ino, seen.st_ctime_ns) or not _is_tfhub_view(path):
                return False
            self._disk.unlink(path)
            return True

    def keys(self) -> Iterator[str]:
        """The keys of the records, damaged ones too, one by one while the directory is read."""
        for name in self._names(self.layout.handles):
            key = name.removesuffix(_RECORD_SUFFIX)
            if key != name and is_digest(key):
                yield key

    def linked_keys(self) -> Iterator[str]:
        """The keys of the views in ``handles/``, whether or not they have a record."""
        return filter(is_digest, self._names(self.layout.handles))

    def links(self) -> Iterator[tuple[str, str | None]]:
        """The keys of the views in ``handles/`` with the digests that they lead to (None: no view of the store's)."""
        for key in self.linked_keys():
            yield key, _points_to(self.layout.handle_link(key), digest_of_target)

    def tfhub_views(self) -> Iterator[tuple[str, os.stat_result, str]]:
        """The views in ``tfhub/``: name, status and digest, whether or not they have a record."""
        for name in self._names(self.layout.tfhub):
            path = self.layout.tfhub_entry(name)
            with suppress(OSError):
                digest = digest_of_tfhub_target(os.readlink(path))
                if digest is not None:
                    yield name, os.lstat(path), digest

    def all(self) -> Iterator[tuple[str, Record]]:
        """The records with their keys; damaged ones are left out."""
        for key in self.keys():
            record = self.get(key)
            if record is not None:
                yield key, record

    def _names(self, directory: str) -> Iterator[str]:
        with storing("listing the cache"), os.scandir(directory) as entries:
            for entry in entries:
                yield entry.name

    def _read(self, key: str) -> Record | None:
        path = self.layout.record(key)
        try:
            # Looked at before it is read: what is written in between has another version than the one that is kept.
            version = _version(os.lstat(path))
            if (known := self._parsed.get(key)) is not None and known[0] == version:
                return known[1]
            record = Record.model_validate_json(read_file(path, _MAX_RECORD_BYTES))
        except FileNotFoundError:
            return None
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise ValueError("it is a link") from None
            raise from_os_error(error, "reading a record") from error
        if record.key != key:
            raise ValueError(f"it is the record of {record.handle}")
        with self._parsing:
            self._parsed.pop(key, None)
            self._parsed[key] = version, record
            if len(self._parsed) > _MOST_PARSED:
                del self._parsed[next(iter(self._parsed))]
        return record

    def _write(
        self, before: Record | None, record: Record, direct_until: float, last_used: float | None = None
    ) -> None:
        data = record.model_dump_json(indent=1).encode()
        path = self.layout.record(record.key)
        self._disk.replace_file(path, data, 0o600, self.layout.new_staging())
        if last_used is not None:
            self._disk.utime(path, (last_used, last_used))
        self._note(record.key, record)
        self._admit(record.digest)
        self._mend_views(self._views(record, direct_until))
        if before is not None:
            if record.reader is None:
                self._remove_tfhub_views(set(before.spellings) - set(record.spellings))
            if before.digest != record.digest:
                self._admit(before.digest)

    def _admit(self, digest: str) -> None:
        entries = self.catalog.of_digest(digest)
        path = self.layout.tree(digest)
        if not entries or not os.path.isdir(path) or os.path.islink(path):
            return
        readers = readers_of(entries, time.time())
        wanted = to_be_named(readers) if readers is not None else None
        if acl.readers_of(path) != wanted or (wanted is None and not os.lstat(path).st_mode & 0o001):
            self._disk.let_in(path, wanted)
            self._disk.fsync_directory(path)

    def _mend_views(self, views: Iterable[_View]) -> bool:
        wrong = [view for view in views if _is_wrong(view)]
        for view in wrong:
            temporary = self.layout.new_staging()
            self._disk.symlink(view.target, temporary)
            try:
                if view.mtime is not None:
                    self._disk.utime(temporary, (view.mtime, view.mtime))
                self._disk.rename(temporary, view.path)
            except OSError:
                with suppress(OSError):
                    self._disk.unlink(temporary)
                raise
        return bool(wrong)

    def _views(self, record: Record, direct_until: float) -> Iterator[_View]:
        if record.reader is not None:
            return  # private: the daemon alone answers for it
        if self.layout.is_withdrawn(record.digest):
            return
        until = max(0.0, min(direct_until, _FOR_EVER))
        yield _View(self.layout.handle_link(record.key), target_of_digest(record.digest), until)
        for spelling in record.spellings:
            yield _View(self.layout.tfhub_view(spelling), tfhub_target(record.digest), None)

    def _remove(self, key: str) -> None:
        record = self.get(key)
        self._remove_views(key, record.spellings if record is not None and record.reader is None else ())
        with suppress(FileNotFoundError):
            self._disk.unlink(self.layout.record(key))
        self.catalog.remove(key)
        self._disk.fsync_directory(self.layout.handles)
        if record is not None:
            self._admit(record.digest)

    def _note(self, key: str, record: Record | None) -> None:
        """Bring the catalog up to a record that was read or written just now."""
        last_used = self.last_used(key)
        if record is None or last_used is None:
            self.catalog.remove(key)
            return
        self.catalog.put(
            Entry(
                key=key,
                handle=record.handle,
                digest=record.digest,
                size_bytes=record.size_bytes,
                immutable=record.immutable,
                pinned=record.pinned,
                fetched_at=record.fetched_at.timestamp(),
                last_used=last_used,
                reader=record.reader,
                granted_until=record.granted_until.timestamp() if record.granted_until is not None else 0.0,
            )
        )

    def _remove_views(self, key: str, spellings: Iterable[str]) -> None:
        self._remove_tfhub_views(spellings)
        with suppress(FileNotFoundError):
            self._disk.unlink(self.layout.handle_link(key))

    def _remove_tfhub_views(self, spellings: Iterable[str]) -> None:
        for path in map(self.layout.tfhub_view, spellings):
            if _is_tfhub_view(path):
                self._disk.unlink(path)


def _version(status: os.stat_result) -> _Version:
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _is_wrong(view: _View) -> bool:
    try:
        status = os.lstat(view.path)
    except FileNotFoundError:
        return True
    if not stat.S_ISLNK(status.st_mode):
        return False  # tensorflow_hub's own entry, or someone's: it stays as it is
    if view.mtime is not None and int(status.st_mtime) != int(view.mtime):
        return True
    return os.readlink(view.path) != view.target


def _is_tfhub_view(path: str) -> bool:
    """Whether it is a link that the store made, and not tensorflow_hub's own entry."""
    return _points_to(path, digest_of_tfhub_target) is not None


def _points_to(path: str, digest_of: Callable[[str], str | None]) -> str | None:
    """The digest of the tree that a view leads to; None when it is no link of the store's."""
    try:
        return digest_of(os.readlink(path))
    except OSError:
        return None

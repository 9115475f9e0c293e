"""Modules on disk: published, found, checked, evicted.

Law: nothing else writes to ``trees/``, a tree appears there by one rename when it is whole, and it leaves only under
the write side of its lease, so never while anyone holds one.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pydantic import ValidationError

from hubclient.contract import listing
from hubclient.contract.errors import Internal, InUse
from hubclient.contract.layout import is_digest
from hubclient.contract.lease import Lease
from hubd.store import trash
from hubd.store.deep_check import DeepCheck
from hubd.store.disk import Disk, from_os_error, read_file, storing
from hubd.store.health import Health
from hubd.store.layout import StoreLayout, TreeLayout
from hubd.store.ledger import Ledger, disk_bytes
from hubd.store.manifest import Manifest
from hubd.store.readers import to_be_named
from hubd.store.staging import Staging
from hubd.store.verification import QuickCheck

_log = logging.getLogger(__name__)

_MAX_MANIFEST_BYTES = 64 << 20
_TOLD_PATHS = 5
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class Trees:
    """The trees of one cache. All methods block; `find` is quick enough for the event loop when
    the module has few files: it looks at each. Thread-safe.

    `ledger` has what `measure` and every change since have put there.
    """

    def __init__(self, layout: StoreLayout, disk: Disk | None = None) -> None:
        self.layout = layout
        self.ledger = Ledger()
        self._disk = disk or Disk()
        self.health = Health()
        self._check = QuickCheck()
        # Held while a name in trees/ changes, so that two fetches of equal content, or a fetch and an eviction,
        # come one after the other.
        self._changing = threading.Lock()
        self._published: set[str] = set()
        self._publishing = 0
        self._counting = threading.Lock()
        self._emptying = threading.Lock()
        #: When the last publishing ended, in Unix seconds.
        self.published_at = 0.0

    def stage(self) -> Staging:
        """A new place to fetch into. Raises `DiskFull`, `Internal`."""
        with storing("staging"):
            return Staging(self.layout, self._disk, self.ledger)

    def publish(
        self, staged_tree: str, digest: str, manifest: Manifest, readers: frozenset[int] | None = None
    ) -> Lease:
        """Make an unpacked tree a module of the cache, and hold it.

        `staged_tree` holds ``module/``, whole and fsynced. An intact tree of that digest that is there already stays,
        and a damaged one is replaced under its holders' lease. Keep the lease until the record is written. A new tree
        is open to these `readers` alone (None: to everyone) from its first moment; later the records say to whom.
        Raises `DiskFull`, and `Internal` when the files are not the manifest's.
        """
        if not is_digest(digest) or manifest.digest != digest:
            raise Internal(f"the manifest of {manifest.digest} was to be published as {digest}")
        tree = TreeLayout(staged_tree)
        with storing("publishing"), self._counted():
            files = listing.dump(_measured(tree, manifest))
            self._disk.write_file(tree.manifest, manifest.model_dump_json(indent=1).encode(), 0o644)
            self._disk.write_file(tree.listing, files, 0o644)
            self._disk.write_file(tree.lease, b"", 0o644)
            if readers is not None:
                self._disk.let_in(tree.path, to_be_named(readers))
            self._disk.fsync_directory(tree.path)
            size_bytes = disk_bytes(tree.path)
            with self._changing:
                lease = self._place(tree, digest, size_bytes)
                self._published.add(digest)
                return lease

    def quiet_since(self) -> float | None:
        """Now, in Unix seconds, if nothing is being published; None if something is.

        What is published later has a manifest that is not older.
        """
        with self._counting:
            return None if self._publishing else time.time()

    def find(self, digest: str) -> Lease | None:
        """Hold a tree that is there and intact; None when it is missing, damaged or being removed.

        Raises `Internal` when that cannot be known (no free file descriptor, say): a module is never fetched again
        for that.
        """
        try:
            lease = Lease.share(_real(TreeLayout(self.layout.tree(digest))).lease)
        except OSError as error:
            if error.errno in (*_NOT_THERE, errno.EAGAIN):
                return None
            raise from_os_error(error, "looking for a module") from error
        try:
            difference = self._check.difference(TreeLayout(self.layout.tree(digest)), lease)
        except BaseException as error:
            lease.release()
            if isinstance(error, OSError):
                raise from_os_error(error, "checking a module") from error
            raise
        if difference is None:
            return lease
        lease.release()
        if not self.is_suspect(digest):
            self.health.found_damaged(digest, difference)
        return None

    def is_suspect(self, digest: str) -> bool:
        """Whether the tree is not to be served before a deep check. Quick enough for the event loop."""
        return os.path.lexists(self.layout.unchecked(digest))

    def suspect(self, digest: str) -> None:
        """Serve the tree no more before a deep check. Raises `DiskFull`, `Internal`."""
        with storing("withdrawing a module"), self._changing, suppress(FileNotFoundError):
            self._disk.rename(self.layout.listing(digest), self.layout.unchecked(digest))

    def check(self, digest: str, cancelled: threading.Event) -> DeepCheck | None:
        """Begin a deep check, which keeps the tree from eviction; None when there is no tree, or it is being removed.

        `acquit` or `condemn` it by what is found, and close it. Raises `Internal` when it cannot be looked at.
        """
        try:
            return DeepCheck(TreeLayout(self.layout.tree(digest)), digest, cancelled)
        except OSError as error:
            if error.errno in (*_NOT_THERE, errno.EAGAIN):
                return None
            raise from_os_error(error, "checking a module") from error

    def acquit(self, digest: str, check: DeepCheck) -> bool:
        """Serve the tree that was found intact; False when it does not have this name any more.

        Raises `DiskFull`, `Internal`.
        """
        with storing("serving a module again"), self._changing:
            if not self._is_checked(digest, check):
                return False
            if self.is_suspect(digest):  # most are not, and then nothing is written: the disk may be read-only
                with suppress(FileNotFoundError):
                    self._disk.rename(self.layout.unchecked(digest), self.layout.listing(digest))
            return True

    def condemn(self, digest: str, check: DeepCheck) -> bool:
        """Serve the tree that was found damaged no more, across restarts, until it is repaired: without its listing
        it passes no quick check. Withdraw its views next: a client that knows the listing reads it no more.

        False when what was checked does not have this name any more. Raises `DiskFull`, `Internal`.
        """
        tree = TreeLayout(self.layout.tree(digest))
        with storing("withdrawing a damaged module"), self._changing:
            if not self._is_checked(digest, check):
                return False
            for path in (tree.listing, tree.unchecked):
                with suppress(FileNotFoundError, IsADirectoryError):
                    self._disk.unlink(path)
            self._disk.fsync_directory(tree.path)
        self.measure(digest)
        self.health.found_damaged(digest, ", ".join(check.damage[:_TOLD_PATHS]))
        return True

    def manifest(self, digest: str) -> Manifest | None:
        """What was published with the tree; None when it is missing or damaged."""
        path = self.layout.manifest(digest)
        try:
            manifest = Manifest.model_validate_json(read_file(path, _MAX_MANIFEST_BYTES))
        except FileNotFoundError:
            return None
        except ValidationError as error:
            _log.warning(
                "damaged manifest %s: %s", path, error.errors(include_url=False, include_input=False)[0]["msg"]
            )
            return None
        except ValueError as error:
            _log.warning("damaged manifest %s: %s", path, error)
            return None
        except OSError as error:
            raise from_os_error(error, "reading a manifest") from error
        return manifest if manifest.digest == digest else None

    def evict(self, digest: str, *, force: bool = False) -> int:
        """Take the tree out of the cache, into the trash: views and record are the caller's to remove next, and
        `empty_trash` frees the space. A tree that is not there is no error.

        The bytes that it takes on disk. Raises `InUse` when anyone holds it, unless `force`.
        """
        with storing("evicting"), self._changing:
            return self._remove(digest, force=force)

    def evict_unpublished(self, digest: str) -> bool:
        """The same for a tree that had no record at start-up, unless this daemon has published it since."""
        with storing("evicting"), self._changing:
            if digest in self._published:
                return False
            self._remove(digest)
            return True

    def digests(self) -> Iterator[str]:
        """The digests of the trees that are there, damaged ones too."""
        with storing("listing the cache"), os.scandir(self.layout.trees) as entries:
            for entry in entries:
                if is_digest(entry.name):
                    yield entry.name

    def is_held(self, digest: str) -> bool:
        """Whether anyone holds the tree, this daemon included."""
        try:
            return Lease.is_held(self.layout.lease(digest))
        except OSError:
            return False  # no tree, or no lease that could be held

    def lease_inode(self, digest: str) -> tuple[int, int] | None:
        """The identity of the tree: that of its lease file; None when it has none."""
        try:
            status = os.lstat(self.layout.lease(digest))
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def measure(self, digest: str) -> int:
        """Bring the tree's account up to what it takes on disk now: something else may have deleted files of it."""
        path = self.layout.tree(digest)
        with storing("measuring the cache"), self._changing:
            if not os.path.lexists(path):
                self.ledger.close(path)
                return 0
            size_bytes = disk_bytes(path)
            self.ledger.set(path, size_bytes)
            return size_bytes

    def empty_trash(self) -> None:
        """Delete what was evicted or discarded; what cannot be deleted stays, with a warning. Raises `Internal`."""
        # Of two at once, one would account for what the other is just deleting.
        with storing("emptying the trash"), self._emptying:
            trash.empty(self.layout, self.ledger, self._disk)

    def _place(self, tree: TreeLayout, digest: str, size_bytes: int) -> Lease:
        target = TreeLayout(self.layout.tree(digest))
        # Held before the rename: between it and a later lock, an eviction could take the tree.
        own = Lease.share(tree.lease)
        try:
            if not os.path.lexists(target.path):
                self._disk.rename(tree.path, target.path)
                self.ledger.hand_over(os.path.dirname(tree.path), target.path, size_bytes)
                self._disk.fsync_directory(self.layout.trees)
                self.health.is_there(digest)
                return own
            try:
                holders = Lease.share(_real(target).lease)
            except OSError as error:
                if error.errno not in _NOT_THERE:
                    raise
                # It has lost its lease: nobody new can hold it, and whoever did cannot be followed.
                self.health.found_damaged(digest, os.path.basename(target.lease))
                self._exchange(tree, target, size_bytes)
                self.health.was_repaired(digest)
                return own
        except BaseException:
            own.release()
            raise
        own.release()
        try:
            damage = self._check.difference(target, holders)
            if damage is not None:
                suspect = self.is_suspect(digest)  # perhaps intact, but these files are known to be
                if not suspect:
                    self.health.found_damaged(digest, damage)
                self._disk.unlink(tree.lease)
                self._disk.link(target.lease, tree.lease)
                self._disk.fsync_directory(tree.path)
                self._exchange(tree, target, size_bytes)
                if not suspect:
                    self.health.was_repaired(digest)
        except BaseException:
            holders.release()
            raise
        return holders

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._counting:
            self._publishing += 1
        try:
            yield
        finally:
            with self._counting:
                self._publishing -= 1
                self.published_at = time.time()

    def _is_checked(self, digest: str, check: DeepCheck) -> bool:
        try:
            return os.path.samestat(os.lstat(self.layout.tree(digest)), os.fstat(check.directory))
        except FileNotFoundError:
            return False

    def _exchange(self, tree: TreeLayout, target: TreeLayout, size_bytes: int) -> None:
        old_bytes = disk_bytes(target.path)
        try:
            self._disk.exchange(tree.path, target.path)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOSYS):
                raise
            # A file system without it: for a moment the path, damaged as it is, leads nowhere.
            self._throw_away(target.path, old_bytes)
            self._disk.rename(tree.path, target.path)
            self.ledger.hand_over(os.path.dirname(tree.path), target.path, size_bytes)
        else:
            self.ledger.hand_over(os.path.dirname(tree.path), target.path, size_bytes)
            self._throw_away(tree.path, old_bytes)
        self._disk.fsync_directory(self.layout.trees)

    def _throw_away(self, path: str, size_bytes: int | None = None) -> int:
        return trash.throw_away(path, self.layout, self.ledger, self._disk, size_bytes)

    def _remove(self, digest: str, *, force: bool = False) -> int:
        tree = TreeLayout(self.layout.tree(digest))
        lease = None
        try:
            lease = Lease.exclusive(_real(tree).lease)
        except BlockingIOError:
            if not force:
                raise InUse(f"the module is in use: {digest}") from None
        except OSError as error:
            if error.errno not in _NOT_THERE:
                raise
            # no such tree, or one that has lost its lease and protects nobody
        try:
            size_bytes = self._throw_away(tree.path, self.ledger.bytes_of(tree.path) or None)
            if size_bytes:
                self._disk.fsync_directory(self.layout.trees)
            self._published.discard(digest)
            self.health.is_gone(digest)
            return size_bytes
        finally:
            if lease is not None:
                lease.release()


def _real(tree: TreeLayout) -> TreeLayout:
    """The tree, if it is none of a link in its place: what that leads to is not the store's. Raises `OSError`."""
    if os.path.islink(tree.path):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), tree.path)
    return tree


def _measured(tree: TreeLayout, manifest: Manifest) -> Iterator[listing.Entry]:
    """The files as they lie on the disk. Raises `Internal` when one is not what the manifest says."""
    for path, file in manifest.files.items():
        try:
            status = os.lstat(tree.file(path))
        except (FileNotFoundError, NotADirectoryError):
            raise Internal(f"the unpacked module lacks {path!r}") from None
        if not stat.S_ISREG(status.st_mode) or status.st_size != file.size_bytes:
            raise Internal(f"the unpacked {path!r} is no file of {file.size_bytes} bytes")
        yield listing.Entry(status.st_size, status.st_mtime_ns, path)

"""The deep check: is every byte of a tree what was published?

Law: what is checked is one tree, leased and held open by its directory, whatever takes its name meanwhile; and nothing
counts as damage that only says that this process could not look (no free descriptor, no memory).
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from hubclient.contract import listing
from hubclient.contract.lease import Lease
from hubd.store.disk import read_file
from hubd.store.layout import TreeLayout
from hubd.store.manifest import FileEntry, Manifest

T = TypeVar("T")

_PIECE_BYTES = 4 << 20  # so large that the threads seldom need the interpreter's lock, which hits wait for
_SAMPLES = 8
_MAX_FILE_BYTES = 64 << 20  # of a manifest or a listing
# What a damaged tree, or a damaged disk below it, answers.
_DAMAGE = frozenset(
    (
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.ELOOP,
        errno.EACCES,
        errno.EPERM,
        errno.ENXIO,
        errno.EIO,
        errno.EBADMSG,
        errno.EUCLEAN,
    )
)


class DeepCheck:
    """The check of one tree. Several threads may `work` at once; close it when all have returned.

    Opening looks at the names, sizes and mtimes; `total_bytes` remain to be read then.
    """

    def __init__(self, tree: TreeLayout, digest: str, cancelled: threading.Event) -> None:
        """Raises `OSError`: `FileNotFoundError` when there is no tree, `BlockingIOError` when it is being removed."""
        self._fd = -1
        self._cancelled = cancelled
        self._lock = threading.Lock()
        self._damage: set[str] = set()
        self._pending: deque[tuple[str, str]] = deque()
        self.total_bytes = 0
        self.done_bytes = 0
        self._lease: Lease | None = None
        try:
            with suppress(FileNotFoundError):
                self._lease = Lease.share(tree.lease)
            self._fd = os.open(tree.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            if self._lease is None:
                self.add(os.path.basename(tree.lease))
            self._look(TreeLayout("."), digest)
        except BaseException:
            self.close()
            raise

    def work(self) -> None:
        """Compare files until none is left, or the check is cancelled. Raises `OSError` when it cannot be known."""
        while not self._cancelled.is_set():
            try:
                path, sha256 = self._pending.popleft()
            except IndexError:
                return
            try:
                if self._sha256(TreeLayout(".").file(path)) != sha256:
                    self.add(path)
            except OSError as error:
                self._add_if_damage(path, error)

    @property
    def damage(self) -> tuple[str, ...]:
        """The paths that are gone, too many, or not as they were published; a tree's own parts by their names."""
        return tuple(sorted(self._damage))

    @property
    def directory(self) -> int:
        """The descriptor of the tree's directory: which tree this was."""
        return self._fd

    def add(self, path: str) -> None:
        """This is damaged too."""
        with self._lock:
            self._damage.add(path)

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        if self._lease is not None:
            self._lease.release()

    def _look(self, tree: TreeLayout, digest: str) -> None:
        manifest = self._read(tree.manifest, Manifest.model_validate_json)
        if manifest is not None and manifest.digest != digest:
            self.add(os.path.basename(tree.manifest))
        suspect = os.access(tree.unchecked, os.F_OK, dir_fd=self._fd, follow_symlinks=False)
        path = tree.unchecked if suspect else tree.listing
        listed = self._read(path, listing.parse)
        files = self._files(tree)
        for entry in listed or ():
            status = files.get(entry.path)
            if status is None or (status.st_size, status.st_mtime_ns) != (entry.size_bytes, entry.mtime_ns):
                self.add(entry.path)
        if manifest is not None:
            if listed is not None and {entry.path for entry in listed} != manifest.files.keys():
                self.add(
                    os.path.basename(path)
                )  # cut at the end of a line, say: the quick check would look at the rest
            self._compare(files, manifest.files)

    def _compare(self, files: dict[str, os.stat_result], expected: dict[str, FileEntry]) -> None:
        for path in files.keys() ^ expected.keys():
            self.add(path)
        for path in files.keys() & expected.keys():
            if files[path].st_size != expected[path].size_bytes:
                self.add(path)
            else:
                self._pending.append((path, expected[path].sha256))
                self.total_bytes += expected[path].size_bytes

    def _files(self, tree: TreeLayout) -> dict[str, os.stat_result]:
        """The regular files below ``module/``; all else but directories is damage."""
        found: dict[str, os.stat_result] = {}
        pending = [tree.module]
        while pending:
            directory = pending.pop()
            try:
                fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._fd)
                try:
                    with os.scandir(fd) as entries:
                        statuses = [(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
                finally:
                    os.close(fd)
            except OSError as error:
                self._add_if_damage(os.path.relpath(directory, os.path.dirname(tree.module)), error)
                continue
            for name, status in statuses:
                path = f"{directory}/{name}"
                if stat.S_ISREG(status.st_mode):
                    found[path.removeprefix(tree.module + "/")] = status
                elif stat.S_ISDIR(status.st_mode):
                    pending.append(path)
                else:
                    self.add(path.removeprefix(tree.module + "/"))
        return found

    def _read(self, path: str, parse: Callable[[bytes], T]) -> T | None:
        try:
            return parse(read_file(path, _MAX_FILE_BYTES, dir_fd=self._fd))
        except ValueError:  # pydantic's are of this class too
            self.add(os.path.basename(path))
        except OSError as error:
            self._add_if_damage(os.path.basename(path), error)
        return None

    def _sha256(self, path: str) -> str:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._fd)
        try:
            # Reading a whole cache must not push out of memory what is in use; what somebody uses stays there.
            keep = _is_resident(fd)
            digest, offset = hashlib.sha256(), 0
            piece = memoryview(bytearray(min(_PIECE_BYTES, max(1, os.fstat(fd).st_size))))
            while not self._cancelled.is_set() and (size_bytes := os.readv(fd, [piece])):
                digest.update(piece[:size_bytes])
                if not keep:
                    os.posix_fadvise(fd, offset, size_bytes, os.POSIX_FADV_DONTNEED)
                offset += size_bytes
                with self._lock:
                    self.done_bytes += size_bytes
            return digest.hexdigest()
        finally:
            os.close(fd)

    def _add_if_damage(self, path: str, error: OSError) -> None:
        if error.errno not in _DAMAGE:
            raise error
        self.add(path)


def _is_resident(fd: int) -> bool:
    """Whether any of a few samples of the file is in the page cache (or that cannot be asked: RWF_NOWAIT, readv(2))."""
    size_bytes, byte = os.fstat(fd).st_size, bytearray(1)
    for sample in range(_SAMPLES):
        try:
            os.preadv(fd, [byte], size_bytes * sample // _SAMPLES, os.RWF_NOWAIT)
            return True
        except BlockingIOError:
            continue
        except OSError:
            return True
    return False

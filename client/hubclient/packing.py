"""`pack`: from a module's directory to the archive that a web server hands out.

Law: the bytes of the archive depend on nothing but the names and the content of the files. No time, owner or mode
of this machine gets in, and neither does anything that is not a plain file or a directory.

The layout is that of TF Hub's guide (``tar -cz -f OUT --owner=0 --group=0 -C DIR .``): GNU tar, gzipped, names that
start with ``./``, an entry for each directory before what lies in it. The same bytes come out wherever the same
zlib does the packing; another one (zlib-ng, say) gives other bytes of equal content.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from hubclient.atomic import absolute, new_file
from hubclient.contract import saved_model
from hubclient.contract.errors import AccessDenied, NotAModule
from hubclient.local import module_directory
from hubclient.model_errors import ExportInvalid

_LEVEL = 6
_GZIP = 31  # zlib's way to ask for a gzip header, in which it leaves name and time empty
_PIECE_BYTES = 1024 * 1024
_RECORD_BYTES = tarfile.RECORDSIZE
_JUNK = frozenset(
    (".DS_Store", ".git", ".gitattributes", ".gitignore", ".ipynb_checkpoints", "__MACOSX", "Thumbs.db", "desktop.ini")
)

#: Called with the bytes of files that are packed, and that there are in all.
Progress = Callable[[int, int], None]


class Packed(NamedTuple):
    """What `pack` made."""

    path: str  #: of the archive, in full
    digest: str  #: "sha256:" and the hex digest of the archive, as `hubctl get --digest` takes it
    size_bytes: int  #: of the archive
    content_bytes: int  #: of the files in it
    left_out: tuple[str, ...]  #: what in the directory belongs to no module, and was not packed


class _Entry(NamedTuple):
    name: str  # "." or "./..."
    path: str
    size_bytes: int | None  # None: a directory
    mtime_ns: int = 0  # of a file


def pack(
    directory: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> Packed:
    """Write the archive of a module's directory; the same content gives the same bytes.

    Left out are what file managers, notebooks and git leave behind (``.DS_Store``, ``.git``, ``__MACOSX``, ...), and
    nothing else. `force` replaces a file that is at `out`. Memory does not grow with the module.

    Raises `NotFound`, `NotAModule`, `PathExists`, `DiskFull`, `AccessDenied`, and `ExportInvalid` for links, special
    files, names that no archive should have, an `out` inside the directory, and a directory that changes meanwhile.
    """
    root = source_directory(directory)
    target = absolute(out)
    _check(root)
    if _is_within(os.path.realpath(os.path.dirname(target)), os.path.realpath(root)):
        raise ExportInvalid(f"{target} is inside the module: an archive cannot hold itself, so name another place")
    left_out: list[str] = []
    entries = _entries(root, left_out)
    content_bytes = sum(entry.size_bytes or 0 for entry in entries)
    with new_file(target, replace=force) as file:
        archive = _Archive(file)
        packed_bytes = 0
        for entry in entries:
            archive.write(_header(entry))
            if entry.size_bytes is not None:
                for piece in _content(entry, entry.size_bytes):
                    archive.write(piece)
                    packed_bytes += len(piece)
                    if progress is not None:
                        progress(packed_bytes, content_bytes)
                archive.write(bytes(-entry.size_bytes % tarfile.BLOCKSIZE))
        archive.finish()
        if (later := _changed(entries, _entries(root, []))) is not None:
            raise ExportInvalid(f"{later} changed while it was packed")
    return Packed(target, f"sha256:{archive.digest.hexdigest()}", archive.size_bytes, content_bytes, tuple(left_out))


def source_directory(directory: str | os.PathLike[str]) -> str:
    """The directory in full; raises as `pack`."""
    named = os.fspath(directory)
    if named.startswith(("http://", "https://")):
        raise ExportInvalid(f"{named} is a URL: `hubctl get` tells the directory of a published module")
    return module_directory(named)


class _Archive:
    """A tar stream that is gzipped into a file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._gzip = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
        self._tar_bytes = 0
        self.digest = hashlib.sha256()
        self.size_bytes = 0

    def write(self, data: bytes) -> None:
        self._tar_bytes += len(data)
        self._put(self._gzip.compress(data))

    def finish(self) -> None:
        end_bytes = 2 * tarfile.BLOCKSIZE
        self.write(bytes(end_bytes + -(self._tar_bytes + end_bytes) % _RECORD_BYTES))
        self._put(self._gzip.flush())

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self.digest.update(data)
        self.size_bytes += len(data)


def _check(root: str) -> None:
    path = os.path.join(root, "saved_model.pb")
    try:
        saved_model.read(path)
    except FileNotFoundError:
        if not os.path.exists(path + "txt"):
            raise NotAModule(f"{root} holds no module: there is no saved_model.pb") from None
    except saved_model.SavedModelError as error:
        raise NotAModule(f"{path} cannot be read: {error}") from error
    except OSError as error:
        raise AccessDenied(f"cannot read {path}: {error.strerror}") from error


def _is_within(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _entries(root: str, left_out: list[str]) -> list[_Entry]:
    """The directory and all that is in it, each directory before its content, names in the order of their bytes."""
    found = [_Entry(".", root, None)]
    pending = [(".", root)]
    while pending:
        name, path = pending.pop()
        try:
            with os.scandir(path) as entries:
                children = list(entries)
        except OSError as error:
            raise AccessDenied(f"cannot read {path}: {error.strerror}") from error
        for child in children:
            if child.name in _JUNK or child.name.startswith("._"):
                left_out.append(f"{name}/{child.name}"[2:])
                continue
            entry = _entry(f"{name}/{child.name}", child.path, child.stat(follow_symlinks=False))
            found.append(entry)
            if entry.size_bytes is None:
                pending.append((entry.name, entry.path))
    left_out.sort()
    return sorted(found, key=lambda entry: os.fsencode(entry.name).split(b"/"))


def _entry(name: str, path: str, status: os.stat_result) -> _Entry:
    # What hubd's reader refuses in an archive had better not get into one.
    if not name.isprintable():
        raise ExportInvalid(f"{name!r} has characters in its name that cannot be printed, or is not UTF-8: rename it")
    if stat.S_ISDIR(status.st_mode):
        return _Entry(name, path, None)
    if stat.S_ISREG(status.st_mode):
        return _Entry(name, path, status.st_size, status.st_mtime_ns)
    if stat.S_ISLNK(status.st_mode):
        raise ExportInvalid(f"{path} is a symbolic link: put the file itself there")
    raise ExportInvalid(f"{path} is neither a file nor a directory")


def _changed(before: list[_Entry], after: list[_Entry]) -> str | None:
    """The path of one that came, went, or was written to meanwhile."""
    return min((entry.path for entry in set(before) ^ set(after)), default=None)


def _header(entry: _Entry) -> bytes:
    info = tarfile.TarInfo(entry.name)
    if entry.size_bytes is None:
        info.type, info.mode = tarfile.DIRTYPE, 0o755
    else:
        info.size, info.mode = entry.size_bytes, 0o644
    return info.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict")


def _content(entry: _Entry, size_bytes: int) -> Iterator[bytes]:
    try:
        # O_NONBLOCK: a FIFO that took the file's place must not be waited for.
        fd = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb", buffering=0) as file:
            left_bytes = size_bytes
            while piece := file.read(min(_PIECE_BYTES, left_bytes + 1)):
                left_bytes -= len(piece)
                if left_bytes < 0:
                    break
                yield piece
    except FileNotFoundError:
        raise ExportInvalid(f"{entry.path} changed while it was packed: it is gone") from None
    except OSError as error:
        raise AccessDenied(f"cannot read {entry.path}: {error.strerror}") from error
    if left_bytes:
        raise ExportInvalid(f"{entry.path} changed while it was packed")

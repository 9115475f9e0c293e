"""Names of archive members: from raw bytes to a relative path that is safe to create.

Law: a path that leaves `clean` is relative, UTF-8, free of control characters, of ``.``, ``..`` and empty
segments, and within the limits; and `Namespace` lets each path mean one thing only.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from hubclient.contract.errors import ArchiveTooLarge, ArchiveUnsafe
from hubclient.contract.listing import MAX_CHARACTERS, MAX_SEGMENT_BYTES

_MAX_SHOWN = 80
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class ArchiveLimits(NamedTuple):
    """What one archive may hold. Directories count as files do."""

    module_bytes: int
    files: int
    depth: int
    path_bytes: int


def shown(name: bytes | str) -> str:
    """A member's name as an error may print it: short, without control characters."""
    text = name if isinstance(name, str) else name[: 4 * _MAX_SHOWN].decode(errors="replace")
    text = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
    return repr(text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "...")


def clean(raw: bytes, limits: ArchiveLimits) -> str:
    """The path that a member's name stands for, without ``./`` before and ``/`` behind it; "" is the root itself.

    Raises `ArchiveUnsafe` for every name that is not plainly a path below the root.
    """
    if not raw:
        raise ArchiveUnsafe("a member of the archive has no name")
    if len(raw) > limits.path_bytes:
        raise ArchiveUnsafe(f"the name of {shown(raw)} is longer than the limit of {limits.path_bytes} bytes")
    try:
        name = raw.decode()
    except UnicodeDecodeError:
        raise ArchiveUnsafe(f"the name of {shown(raw)} is not UTF-8") from None
    if _CONTROL.search(name):
        raise ArchiveUnsafe(f"the name of {shown(raw)} contains control characters")
    if name.startswith("/"):
        raise ArchiveUnsafe(f"the name of {shown(raw)} is an absolute path")
    path = name.removeprefix("./").removesuffix("/")
    if path in ("", "."):
        return ""
    segments = path.split("/")
    for segment in segments:
        if segment in ("", ".", ".."):
            raise ArchiveUnsafe(f"the name of {shown(raw)} has the segment {segment!r}")
        if len(segment.encode()) > MAX_SEGMENT_BYTES:
            raise ArchiveUnsafe(f"the name of {shown(raw)} has a segment of over {MAX_SEGMENT_BYTES} bytes")
    if len(segments) > limits.depth:
        raise ArchiveUnsafe(f"{shown(raw)} lies deeper than the limit of {limits.depth} levels")
    return path


class Namespace:
    """The paths that an archive has named so far, and the directories that they imply."""

    def __init__(self, limits: ArchiveLimits) -> None:
        self._max_files = limits.files
        self._characters = 0
        self._files: set[str] = set()
        self._directories: dict[str, bool] = {"": False}  # path -> whether the archive has an entry for it

    @property
    def directories(self) -> list[str]:
        """Every directory, the root ("") included, each before what lies in it."""
        return list(self._directories)

    def has_file(self, path: str) -> bool:
        return path in self._files

    def root_names(self) -> list[str]:
        """What lies directly at the root: names, those of directories with ``/`` behind."""
        files = [path for path in self._files if "/" not in path]
        return sorted(files + [path + "/" for path in self._directories if path and "/" not in path])

    def add_file(self, path: str) -> list[str]:
        """Note a file; the directories that it newly implies, outermost first."""
        if path in self._files or not path:
            raise ArchiveUnsafe(f"the archive names {shown(path)} twice")
        if path in self._directories:
            raise ArchiveUnsafe(f"the archive has {shown(path)} both as a file and as a directory")
        implied = self._imply(path.rpartition("/")[0])
        self._files.add(path)
        self._characters += len(path)
        self._check_limits()
        return implied

    def add_directory(self, path: str) -> list[str]:
        """Note a directory entry; the directories to create for it, outermost first."""
        if self._directories.get(path):
            raise ArchiveUnsafe(f"the archive names the directory {shown(path)} twice")
        new = self._imply(path)
        self._directories[path] = True
        return new

    def _imply(self, path: str) -> list[str]:
        new: list[str] = []
        while path not in self._directories:
            if path in self._files:
                raise ArchiveUnsafe(f"the archive has {shown(path)} both as a file and as a directory")
            new.append(path)
            path = path.rpartition("/")[0]
        new.reverse()
        self._directories.update(dict.fromkeys(new, False))
        self._characters += sum(map(len, new))
        self._check_limits()
        return new

    def _check_limits(self) -> None:
        if len(self._files) + len(self._directories) - 1 > self._max_files:
            raise ArchiveTooLarge(f"the archive holds more than the limit of {self._max_files} files and directories")
        if self._characters > MAX_CHARACTERS:
            raise ArchiveTooLarge(f"the paths in the archive have more than {MAX_CHARACTERS} characters together")

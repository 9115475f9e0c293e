"""One look at a directory of modules: ``<publisher...>/<model>/<version>/``, a SavedModel, or its ``<version>.tar.gz``.

Law: what somebody is still writing is not there yet: it counts once it has been left alone for a while. And no link is
followed below the root: who may write there decides what is served, and may not lend it eyes elsewhere.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import stat
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

#: One of these at the root makes a directory a module.
MODULE_FILES = ("saved_model.pb", "saved_model.pbtxt", "tfhub_module.pb")
ARCHIVE_SUFFIX = ".tar.gz"
README = "README.md"

#: First segments that are the host's own: its assets, and what programs ask.
RESERVED = frozenset({"-", "api"})

_VERSION = re.compile("0|[1-9][0-9]{0,17}")  # also ASCII alone: `str.isdigit` knows others
_MAX_SEGMENTS = 16
_MAX_DEPTH = 64  # of a module's directories: twice of what a daemon takes
_STAGING_SUFFIXES = (".part", ".partial", ".tmp")


class Version(NamedTuple):
    model: str
    number: int
    path: str  #: of the directory or the archive
    is_archive: bool
    modified_at: float  #: when the newest of its files was written, in seconds since the epoch
    #: Another one: the files may be others. Hex; made of names, sizes, times and inodes.
    stamp: str = ""
    readme_stamp: str = ""  #: the same for the README of all versions of the model, which lies beside them

    @property
    def name(self) -> str:
        """As it stands in a URL, unquoted."""
        return f"{self.model}/{self.number}"


class Model(NamedTuple):
    name: str
    versions: tuple[Version, ...]  #: the newest first; at least one

    def version(self, number: int) -> Version | None:
        return next((one for one in self.versions if one.number == number), None)


class Unsettled(NamedTuple):
    """What was too new."""

    stamp: str
    since: float  #: it has looked like this, in seconds of the monotonic clock


class Scan:
    """One scan: what it finds and what it has to say."""

    def __init__(
        self, root: str, before: Mapping[str, Model], unsettled: Mapping[str, Unsettled], quiet_seconds: float
    ) -> None:
        """`unsettled` is that of the scan before."""
        self.found: dict[str, dict[int, Version]] = {}
        self.unsettled: dict[str, Unsettled] = {}
        self.complaints: dict[str, tuple[int, str]] = {}
        self.readmes: dict[str, str] = {}  # stamps, by model
        self._root = root
        self._known = {one.path: one.stamp for model in before.values() for one in model.versions}
        self._unsettled_before = unsettled
        self._quiet_seconds = quiet_seconds

    def root(self) -> None:
        for entry in _listed(self._root):
            if entry.name in RESERVED:
                self._ignore(entry.path, f"is ignored: /{entry.name}/ is the host's own")
            else:
                self._entry(entry, "")

    def _entry(self, entry: os.DirEntry[str], model: str) -> bool:
        """Take in one entry of the directory of a model, or of a publisher; whether something was found, or said."""
        try:
            return self._taken(entry, model)
        except OSError as error:
            return self._ignore(entry.path, f"is ignored: it cannot be read ({error.strerror})")

    def _taken(self, entry: os.DirEntry[str], model: str) -> bool:
        name = entry.name
        if name.startswith(".") or name.endswith(_STAGING_SUFFIXES):
            return self._ignore(entry.path, "is ignored: it is hidden, or not finished yet", logging.INFO)
        if not name.isprintable() or name != name.strip():
            return self._ignore(entry.path, "is ignored: its name cannot be printed, or is not UTF-8")
        if entry.is_symlink():
            return self._ignore(entry.path, "is ignored: it is a symbolic link, and none is followed")
        if entry.is_dir(follow_symlinks=False):
            return self._directory(entry, model)
        if not entry.is_file(follow_symlinks=False):
            return self._ignore(entry.path, "is ignored: it is neither a file nor a directory")
        return self._file(entry, model)

    def _file(self, entry: os.DirEntry[str], model: str) -> bool:
        if entry.name == README:
            self.readmes[model] = _stamp([("", entry.stat(follow_symlinks=False))])
            return False
        if not entry.name.endswith(ARCHIVE_SUFFIX):
            return self._ignore(entry.path, "is ignored: it is no module", logging.INFO)
        return self._version(entry, model, entry.name.removesuffix(ARCHIVE_SUFFIX), is_archive=True)

    def _directory(self, entry: os.DirEntry[str], model: str) -> bool:
        children = list(_listed(entry.path))
        if any(child.name in MODULE_FILES and child.is_file(follow_symlinks=False) for child in children):
            return self._version(entry, model, entry.name, is_archive=False)
        below = f"{model}/{entry.name}".removeprefix("/")
        if below.count("/") >= _MAX_SEGMENTS:
            return self._ignore(entry.path, f"is ignored: it lies more than {_MAX_SEGMENTS} levels deep")
        if sum(self._entry(child, below) for child in children):  # each of them, not up to the first
            return True
        return self._ignore(entry.path, f"holds no module: there is no {', '.join(MODULE_FILES)}", logging.INFO)

    def _version(self, entry: os.DirEntry[str], model: str, number: str, *, is_archive: bool) -> bool:
        if not _VERSION.fullmatch(number):
            return self._ignore(
                entry.path,
                "is ignored: it is a module, and its name no version, which is a whole number without leading zeros",
            )
        if not model or _VERSION.fullmatch(model.rpartition("/")[2]):
            return self._ignore(entry.path, "is ignored: what a version lies in is named as its model, by no number")
        listed = [("", entry.stat(follow_symlinks=False))] if is_archive else sorted(tree(entry.path))
        stamp = _stamp(listed)
        if not self._is_settled(entry.path, stamp, listed):
            return True
        versions = self.found.setdefault(model, {})
        other = versions.get(int(number))
        if other is not None:
            self._ignore(entry.path if is_archive else other.path, "is ignored: a directory of this version is there")
        if other is None or other.is_archive:
            modified_at = max((one.st_mtime for _, one in listed if stat.S_ISREG(one.st_mode)), default=0.0)
            versions[int(number)] = Version(model, int(number), entry.path, is_archive, modified_at, stamp)
        return True

    def _is_settled(self, path: str, stamp: str, listed: list[tuple[str, os.stat_result]]) -> bool:
        """Whether nobody has written there lately: by the clock, or because it has looked the same for so long.

        The time of change counts, which nobody can set back as `cp -p` and `tar` do with that of modification. (What is
        renamed into place has a new one too, but not what lies in it.)
        """
        if self._known.get(path) == stamp:
            return True
        newest = max((one.st_ctime if name else one.st_mtime for name, one in listed), default=0.0)
        now = time.monotonic()
        before = self._unsettled_before.get(path)
        since = before.since if before is not None and before.stamp == stamp else now
        if newest <= time.time() - self._quiet_seconds or (before and now - since >= self._quiet_seconds):
            return True
        self.unsettled[path] = Unsettled(stamp, since)
        return False

    def _ignore(self, path: str, complaint: str, level: int = logging.WARNING) -> bool:
        self.complaints[path] = (level, complaint)
        return True


def tree_stamp(path: str) -> tuple[str, int]:
    """The stamp of a version as its files are now, and how many bytes they have. Raises `OSError`."""
    listed = sorted(tree(path)) if os.path.isdir(path) else [("", os.stat(path, follow_symlinks=False))]
    return _stamp(listed), sum(status.st_size for _, status in listed if stat.S_ISREG(status.st_mode))


def _listed(directory: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(directory) as entries:
        yield from sorted(entries, key=lambda entry: entry.name)


def tree(directory: str, name: str = "") -> Iterator[tuple[str, os.stat_result]]:
    """The directory itself as `name`, and all that is in it as ``/path``; follows no link. Raises `OSError`."""
    if name.count("/") > _MAX_DEPTH:
        raise OSError(errno.ENAMETOOLONG, f"its directories are nested more than {_MAX_DEPTH} deep")
    yield name, os.stat(directory, follow_symlinks=False)
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from tree(entry.path, f"{name}/{entry.name}")
            else:
                yield f"{name}/{entry.name}", entry.stat(follow_symlinks=False)


def _stamp(listed: list[tuple[str, os.stat_result]]) -> str:
    facts = [(name, one.st_mode, one.st_size, one.st_mtime_ns, one.st_dev, one.st_ino) for name, one in listed]
    return hashlib.sha256(repr(facts).encode()).hexdigest()

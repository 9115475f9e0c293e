"""Where packed archives are kept, outside of the library: a directory of the host's own.

    archives/<digest>.tar.gz    by the sha256 of its bytes: equal archives are kept once
    versions/<stamp>            symlink whose text is the digest of that version's archive
    packing/                    what is being made

Law: an archive appears by one rename, whole, under the digest that it has; and a version's stamp leads to the archive
of just these files, or nowhere. What no version needs is kept a while: a library that is not mounted today is back
tomorrow.
"""

from __future__ import annotations

import os
import secrets
import stat
import time
from collections.abc import Collection
from contextlib import suppress
from typing import NamedTuple

from hubclient.contract.layout import is_digest
from hubd.publishing.scanning import ARCHIVE_SUFFIX

_KEEP_SECONDS = 7 * 86400.0
_UNFINISHED_SECONDS = 3600.0  # since it was written to: another host may share this directory


class Archive(NamedTuple):
    path: str
    digest: str  #: hex sha256 of its bytes
    size_bytes: int


class Shelf:
    """Blocks; raises `OSError`."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._archives, self._versions = f"{root}/archives", f"{root}/versions"
        self._packing = f"{root}/packing"

    def prepare(self) -> None:
        """Make the directories that are missing, and remove what an earlier process left unfinished."""
        for directory in (self.root, self._archives, self._versions, self._packing):
            os.makedirs(directory, mode=0o700, exist_ok=True)
        for name in os.listdir(self._packing):
            with suppress(FileNotFoundError):
                if time.time() - os.lstat(f"{self._packing}/{name}").st_mtime > _UNFINISHED_SECONDS:
                    os.unlink(f"{self._packing}/{name}")

    def digest(self, stamp: str) -> str | None:
        """Of the archive of these files, if it is known."""
        try:
            noted = os.readlink(f"{self._versions}/{stamp}")
        except OSError:
            return None
        return noted if is_digest(noted) else None

    def archive(self, stamp: str) -> Archive | None:
        """The archive that was packed of these files."""
        if (digest := self.digest(stamp)) is None:
            return None
        try:
            status = os.lstat(path := self._archive(digest))
        except OSError:
            return None
        return Archive(path, digest, status.st_size) if stat.S_ISREG(status.st_mode) else None

    def staged(self) -> str:
        """A path for an archive that is to be made."""
        return f"{self._packing}/{secrets.token_hex(8)}{ARCHIVE_SUFFIX}"

    def put(self, stamp: str, staged: str, digest: str) -> Archive:
        """Take in an archive that was made and is durable."""
        os.rename(staged, path := self._archive(digest))
        self.note(stamp, digest)
        return Archive(path, digest, os.lstat(path).st_size)

    def note(self, stamp: str, digest: str) -> None:
        """The archive of these files has this digest."""
        staged = f"{self._packing}/{secrets.token_hex(8)}"
        os.symlink(digest, staged)
        os.rename(staged, f"{self._versions}/{stamp}")

    def clean(self, stamps: Collection[str]) -> list[str]:
        """Remove what none of these versions has needed for a week; the digests of archives that went."""
        now, needed, gone = time.time(), set(), []
        for stamp in os.listdir(self._versions):
            path = f"{self._versions}/{stamp}"
            if stamp in stamps:
                os.utime(path, follow_symlinks=False)
            elif now - os.lstat(path).st_mtime > _KEEP_SECONDS:
                os.unlink(path)
                continue
            needed.add(self.digest(stamp))
        for name in os.listdir(self._archives):
            if name.removesuffix(ARCHIVE_SUFFIX) not in needed:
                os.unlink(f"{self._archives}/{name}")
                gone.append(name.removesuffix(ARCHIVE_SUFFIX))
        return gone

    def _archive(self, digest: str) -> str:
        return f"{self._archives}/{digest}{ARCHIVE_SUFFIX}"

"""The hit path: a cached module is found, held and checked with a few system calls, and no daemon.

Law: a path leaves this file only with a lease on its tree, in a cache that nobody else could have planted, after
its files were compared with the listing.
"""

from __future__ import annotations

import os
import time

from hubclient.contract import listing
from hubclient.contract.errors import CacheUntrusted
from hubclient.contract.layout import LAYOUT_VERSION, CacheLayout, digest_of_target, target_of_digest
from hubclient.contract.lease import Lease
from hubclient.finding import require_trust

#: How many files are looked at again on later calls: `saved_model.pb` and the largest come first in a listing.
FIRST_FILES = 4

_MAX_LISTING_BYTES = 64 << 20
_MAX_VERSION_BYTES = 16


class Damaged(OSError):
    """A file of the tree is gone, or not as it was published."""


class Tree:
    """A module in the cache with a lease on it. Whoever has it releases the lease or keeps the tree."""

    __slots__ = ("digest", "first", "fresh", "lease", "lease_path", "path")

    def __init__(self, layout: CacheLayout, digest: str, lease: Lease, first: list[listing.Entry]) -> None:
        self.path = layout.module(digest)
        self.lease_path = layout.lease(digest)
        self.digest = digest
        self.lease = lease
        #: The first lines of a listing all of which was found to be true.
        self.first = first
        #: Whether it may be answered without the daemon; only `Cache.look` says so.
        self.fresh = False


class Cache:
    """One cache, as this process reads it.

    Thread-safe without locks, so that a fork at any moment is harmless: shared state changes by single operations
    on dicts.
    """

    __slots__ = ("_checked", "_direct", "_kept", "_links", "_trusted", "_uids", "layout")

    def __init__(self, root: str, uids: frozenset[int]) -> None:
        """`uids`: whose caches are trusted."""
        # Links are followed once, here, so that what was checked is what is used.
        self.layout = CacheLayout(os.path.realpath(root))
        self._links = self.layout.handles + "/"
        self._uids = uids
        self._trusted = False
        self._direct = False
        self._kept: dict[str, Tree] = {}
        self._checked: dict[str, tuple[tuple[int, int], list[listing.Entry]]] = {}

    def recall(self, key: str, digest: str | None) -> str | None:
        """The path of a module that this process holds already, if all is still as it was; else None.

        `digest` is what the caller demands; None for anything.
        """
        if not self._direct:
            return None
        link = self._links + key
        try:
            tree = self._kept.get(os.readlink(link))
            if tree is None or os.lstat(link).st_mtime_ns <= time.time_ns():
                return None
            there = os.stat(tree.lease_path)
        except OSError:
            return None
        # If another tree took the place of the held one, our lease guards nothing.
        if (there.st_dev, there.st_ino) != tree.lease.inode or (digest is not None and digest != tree.digest):
            return None
        if listing.first_difference(tree.path, tree.first) is not None:
            return None
        return tree.path

    def look(self, key: str) -> Tree | None:
        """The module behind a handle's link, leased and checked; None when it must be asked for.

        That is so when it is not cached, damaged, being removed, not to be read, or in a cache that is not
        trusted, or whose layout is newer than this program.
        """
        link = self._links + key
        try:
            if not self._direct:
                self._require_trust()
                self._require_known_layout()
                self._direct = True
            digest = digest_of_target(os.readlink(link))
            direct_until_ns = os.lstat(link).st_mtime_ns
            tree = self.take(digest) if digest is not None else None
        except (OSError, CacheUntrusted):
            return None
        if tree is not None:
            tree.fresh = direct_until_ns > time.time_ns()
        return tree

    def take(self, digest: str) -> Tree:
        """The tree of that digest, leased and checked.

        Raises `CacheUntrusted`; `Damaged`, `FileNotFoundError` (there is none), `BlockingIOError` (it is being
        removed) and other `OSError`s.
        """
        self._require_trust()
        lease = Lease.share(self.layout.lease(digest))
        try:
            return Tree(self.layout, digest, lease, self._check(digest, lease.inode))
        except BaseException:
            lease.release()
            raise

    def keep(self, tree: Tree) -> str:
        """Keep the tree's lease for the life of the process, and give its path.

        Of several leases on one tree one is kept.
        """
        target = target_of_digest(tree.digest)
        while True:
            kept = self._kept.setdefault(target, tree)
            if kept is tree:
                return tree.path
            if kept.lease.inode == tree.lease.inode:
                kept.first = tree.first  # a repair keeps the lease, not the files
                tree.lease.release()
                return tree.path
            # The kept one was moved away from under its path. `pop` gives it to one thread alone.
            if (gone := self._kept.pop(target, None)) is not None:
                gone.lease.release()

    def _require_trust(self) -> None:
        if not self._trusted:
            require_trust(self.layout.root, self._uids)
            self._trusted = True

    def _require_known_layout(self) -> None:
        version = _read(self.layout.version_file, _MAX_VERSION_BYTES).strip()
        if not version.isdigit() or int(version) != LAYOUT_VERSION:
            raise OSError(f"{self.layout.version_file} names a layout that this hubclient does not know")

    def _check(self, digest: str, inode: tuple[int, int]) -> list[listing.Entry]:
        """Compare the whole listing, which is read once; its first lines are given.

        Raises `Damaged`, and `OSError` when the listing cannot be read.
        """
        module = self.layout.module(digest)
        checked_inode, known = self._checked.get(digest, (None, []))
        if checked_inode == inode and listing.first_difference(module, known) is None:
            return known[:FIRST_FILES]
        path = self.layout.listing(digest)
        # Twice: a repair may exchange the trees between the reading of the listing and the look at the files.
        for _ in range(2):
            entries = _read_listing(path)
            if (difference := listing.first_difference(module, entries)) is None:
                self._checked[digest] = (inode, entries)
                return entries[:FIRST_FILES]
        raise Damaged(f"{module}/{difference} is gone, or not as it was published")


def _read_listing(path: str) -> list[listing.Entry]:
    try:
        return listing.parse(_read(path, _MAX_LISTING_BYTES))
    except ValueError as error:
        raise Damaged(f"{path} is damaged: {error}") from None


def _read(path: str, limit_bytes: int) -> bytes:
    # O_NONBLOCK: nobody waits at a pipe that took the place of a file, which reads as empty.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        with open(fd, "rb", closefd=False) as file:  # which leaves a directory's descriptor open when it refuses it
            return file.read(limit_bytes)
    finally:
        os.close(fd)

"""The cleaner of a soak: somebody with the right to delete, and no idea of what a cache is.

Law: it works on the very tree that it has put on record, even when another takes that name meanwhile, and it only
takes away: what it cuts or deletes shows by size or absence, which the quick check promises to see.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import TypeVar

from hubclient.contract.layout import is_digest
from hubd.store.layout import StoreLayout
from tests.soak.journal import Journal
from tests.soak.plan import CleanerPlan

T = TypeVar("T")


class Cleaner:
    """`spared`: the keys of pinned modules, whose records stay, because a pin is written nowhere else."""

    def __init__(self, layout: StoreLayout, journal: Journal, spared: frozenset[str]) -> None:
        self._layout = layout
        self._journal = journal
        self._spared = spared

    def act(self, plan: CleanerPlan) -> None:
        """Does it, if there is anything to do it to."""
        # What is gone before it could be touched was somebody else's doing.
        with suppress(FileNotFoundError, NotADirectoryError):
            match plan.act:
                case "delete file" | "truncate file" | "delete tree":
                    self._tree(plan)
                case "delete view":
                    self._view(plan)
                case "delete record" | "truncate record":
                    self._record(plan)

    def _tree(self, plan: CleanerPlan) -> None:
        digest = _chosen([name for name in os.listdir(self._layout.trees) if is_digest(name)], plan.pick)
        if digest is None:
            return
        path = self._layout.tree(digest)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            inode = os.fstat(fd).st_ino
            if plan.act == "delete tree":
                with self._journal.touching(plan.act, digest=digest, inode=inode):
                    _empty(fd)
                    with suppress(OSError):  # another tree has this name by now
                        os.rmdir(path)
                return
            file = _chosen(_files(fd), plan.pick_file)
            if file is None:
                return
            with self._journal.touching(f"{plan.act} {file}", digest=digest, inode=inode):
                size_bytes = os.stat(file, dir_fd=fd, follow_symlinks=False).st_size
                if plan.act == "delete file" or size_bytes == 0:
                    os.unlink(file, dir_fd=fd)
                else:
                    opened = os.open(file, os.O_WRONLY | os.O_NOFOLLOW, dir_fd=fd)
                    os.ftruncate(opened, size_bytes // 2)
                    os.close(opened)
        finally:
            os.close(fd)

    def _view(self, plan: CleanerPlan) -> None:
        links = [self._layout.handle_link(name) for name in os.listdir(self._layout.handles) if is_digest(name)]
        links += [self._layout.tfhub_entry(name) for name in os.listdir(self._layout.tfhub)]
        if (link := _chosen(links, plan.pick)) is not None:
            with self._journal.touching(f"{plan.act} {os.path.relpath(link, self._layout.root)}"):
                os.unlink(link)

    def _record(self, plan: CleanerPlan) -> None:
        names = [name.removesuffix(".json") for name in os.listdir(self._layout.handles) if name.endswith(".json")]
        key = _chosen([name for name in names if name not in self._spared], plan.pick)
        if key is not None:
            path = self._layout.record(key)
            with self._journal.touching(plan.act, key=key):
                if plan.act == "delete record":
                    os.unlink(path)
                else:
                    os.truncate(path, os.stat(path).st_size // 2)


def _chosen(of: Sequence[str], pick: float) -> str | None:
    return sorted(of)[int(pick * len(of))] if of else None


def _files(fd: int) -> list[str]:
    """The paths of all files below an open directory."""
    return [
        os.path.relpath(f"{directory}/{name}") for directory, _, names, _ in os.fwalk(".", dir_fd=fd) for name in names
    ]


def _empty(fd: int) -> None:
    for _, directories, names, inner in os.fwalk(".", topdown=False, dir_fd=fd):
        for name in names:
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=inner)
        for name in directories:
            with suppress(OSError):
                os.rmdir(name, dir_fd=inner)

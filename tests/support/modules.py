"""Modules as the unpacking child leaves them, and records of them, without a network or an archive."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from hubd.store.adoption import adopt
from hubd.store.disk import Disk
from hubd.store.layout import TreeLayout
from hubd.store.manifest import FileEntry, Manifest, content_digest
from hubd.store.records import Record
from hubd.store.trees import Trees

FILES: Mapping[str, bytes] = {
    "saved_model.pb": b"\x08\x01",
    "variables/variables.index": b"index",
    "variables/variables.data-00000-of-00001": b"weights" * 100,
}

_MTIME = 1_700_000_000.0


def digest_of(files: Mapping[str, bytes]) -> str:
    """Stands for the sha256 of the archive that holds these files."""
    return hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()


def fill(tree: str, files: Mapping[str, bytes] = FILES, disk: Disk | None = None) -> Manifest:
    """Put the files into an attempt's tree, with the modes and fsyncs of the unpacking child, and a fixed mtime."""
    disk = disk or Disk()
    module = TreeLayout(tree).module
    directories = [module]
    disk.mkdir(module, 0o755)
    for path, data in files.items():
        directory = os.path.dirname(f"{module}/{path}")
        if directory not in directories:
            directories.append(directory)
            disk.mkdir(directory, 0o755)
        fd = disk.create(f"{module}/{path}", 0o644)
        disk.write(fd, data)
        disk.utime(f"{module}/{path}", (_MTIME, _MTIME))
        disk.fsync(fd)
        os.close(fd)
    for directory in reversed(directories):
        disk.fsync_directory(directory)
    entries = {
        path: FileEntry(size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest()) for path, data in files.items()
    }
    return Manifest(
        digest=digest_of(files),
        content_digest=content_digest(entries),
        archive_bytes=1000,
        size_bytes=sum(map(len, files.values())),
        format="saved_model",
        files=entries,
        meta_graphs=[{"tags": ["serve"], "signatures": {}}],
    )


def record_of(handle: str, files: Mapping[str, bytes] = FILES, *spellings: str) -> Record:
    """The record that a fetch of these files under this handle would write."""
    return Record(
        handle=handle,
        spellings=spellings or (handle,),
        digest=digest_of(files),
        size_bytes=sum(map(len, files.values())),
        fetched_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        immutable=True,
    )


def publish(trees: Trees, files: Mapping[str, bytes] = FILES) -> None:
    """A tree with these files, held by nobody."""
    staging = trees.stage()
    tree = staging.attempt_tree(1)
    trees.publish(tree, digest_of(files), fill(tree, files)).release()
    staging.discard()


def publish_at(root: Path, files: Mapping[str, bytes] = FILES) -> TreeLayout:
    """A cache with one tree and no record; where the tree is."""
    with adopt(str(root), socket="/s") as hold:
        publish(Trees(hold.layout), files)
        return TreeLayout(hold.layout.tree(digest_of(files)))


def change_silently(file: Path) -> None:
    """Other bytes, the same size and mtime: what no quick check can find."""
    before = file.stat()
    file.write_bytes(bytes(byte ^ 1 for byte in file.read_bytes()))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))

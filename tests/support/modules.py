"""Modules as the unpacking child leaves them, and records of them, without a network or an archive."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from datetime import UTC, datetime

from hubd.store.disk import Disk
from hubd.store.layout import TreeLayout
from hubd.store.manifest import FileEntry, Manifest, content_digest
from hubd.store.records import Record

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

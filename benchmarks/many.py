"""Caches of many modules, written by the store's own code.

Law: a cache is made once and kept, and is whole or made anew; nothing but the fsyncs of its making is left out.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from hubclient.contract import handles
from hubd.store.adoption import adopt
from hubd.store.disk import Disk
from hubd.store.layout import StoreLayout, TreeLayout
from hubd.store.manifest import FileEntry, Manifest, content_digest
from hubd.store.records import Record, Records
from hubd.store.trees import Trees

_SAVED_MODEL = b"\x08\x01\x12\x09\x0a\x07\x22\x05serve"
_FEW_BYTES = 2048
_SPREAD_SECONDS = 30 * 86_400.0  # over which the last uses lie


def handle(number: int) -> str:
    return f"https://models.example.org/scale/{number}/1"


def cache(directory: Path, count: int, weights_bytes: int = _FEW_BYTES) -> Path:
    """The cache of so many modules, each with weights of this size, made unless it is there."""
    path = directory / f"modules-{count}-{weights_bytes}"
    if not _is_whole(path, count):
        shutil.rmtree(path, ignore_errors=True)
        print(f"making a cache of {count:,} modules (once) ...", file=sys.stderr, flush=True)
        directory.mkdir(parents=True, exist_ok=True)
        with adopt(str(path), socket=str(path) + ".sock") as hold:
            _fill(hold.layout, count, weights_bytes)
            hold.stop()
        os.sync()
    return path


class _HastyDisk(Disk):
    """What it writes would not survive a power cut."""

    def fsync(self, fd: int) -> None:
        pass

    def fsync_directory(self, path: str) -> None:
        pass


def _fill(layout: StoreLayout, count: int, weights_bytes: int) -> None:
    disk = _HastyDisk()
    trees, records = Trees(layout, disk), Records(layout, disk)
    now = time.time()
    for number in range(count):
        staging = trees.stage()
        tree = staging.attempt_tree(1)
        manifest = _write(disk, tree, number, weights_bytes)
        record = Record(
            handle=handle(number),
            spellings=(handle(number),),
            digest=manifest.digest,
            size_bytes=manifest.size_bytes,
            file_count=len(manifest.files),
            etag=f'"{number}"',
            final_host="models.example.org",
            fetched_at=datetime.now(UTC),
            immutable=True,
        )
        with trees.publish(tree, manifest.digest, manifest):
            records.put(record, direct_until=float("inf"))
        staging.discard()
        used_at = now - _SPREAD_SECONDS * number / count
        os.utime(layout.record(record.key), (used_at, used_at))
    trees.empty_trash()


def _write(disk: Disk, tree: str, number: int, weights_bytes: int) -> Manifest:
    """Six files, as the unpacking child leaves them."""
    block = hashlib.sha256(b"%d" % number).digest()
    files = {
        "saved_model.pb": _SAVED_MODEL,
        "variables/variables.index": b"index",
        "variables/variables.data-00000-of-00001": block * (weights_bytes // len(block)),
        **{f"assets/{asset}.txt": b"%d\n" % number for asset in range(3)},
    }
    module = TreeLayout(tree).module
    for path in (module, f"{module}/variables", f"{module}/assets"):
        disk.mkdir(path, 0o755)
    for name, data in files.items():
        disk.write_file(f"{module}/{name}", data, 0o644)
    entries = {
        name: FileEntry(size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest()) for name, data in files.items()
    }
    return Manifest(
        digest=hashlib.sha256(handle(number).encode()).hexdigest(),
        content_digest=content_digest(entries),
        archive_bytes=1_000,
        size_bytes=sum(map(len, files.values())),
        format="saved_model",
        files=entries,
        meta_graphs=[{"tags": ["serve"], "signatures": {}}],
    )


def _is_whole(path: Path, count: int) -> bool:
    """A daemon may have thrown out modules, and a making may have been interrupted."""
    if not path.is_dir():
        return False
    layout = StoreLayout(str(path))
    try:
        names = set(os.listdir(layout.handles))
        return len(os.listdir(layout.trees)) == count and all(
            f"{key}.json" in names and key in names
            for key in (handles.key(handles.canonical(handle(number))) for number in range(count))
        )
    except FileNotFoundError:
        return False

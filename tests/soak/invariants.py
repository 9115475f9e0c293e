"""What must be true of a cache on the disk, whatever happened to it.

Law: reads alone, takes no lock, and believes nothing that the daemon says: what the origin served is the truth.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

from hubclient.contract import listing
from hubclient.contract.layout import digest_of_target, is_digest
from hubd.store.layout import StoreLayout, TreeLayout

_FLOCK = struct.Struct("hhqqi4x")  # struct flock of 64-bit Linux
_TRANSFER = "transfer.json"  # what makes a partial download resumable

#: The sha256 of each file, by the digest of the tree.
Truth = Mapping[str, Mapping[str, str]]


class Usage(NamedTuple):
    """Bytes on the disk, each inode once: of what lies in the three directories, and of those themselves."""

    entries_bytes: int
    directories_bytes: int


def used(layout: StoreLayout) -> Usage:
    """What ``du`` says of ``trees/``, ``staging/`` and ``trash/``."""
    tops = (layout.trees, layout.staging, layout.trash)
    blocks: dict[tuple[int, int], int] = {}
    for top in tops:
        for directory, directories, files in os.walk(top):
            for name in (*directories, *files):
                with suppress(FileNotFoundError):
                    status = os.lstat(f"{directory}/{name}")
                    blocks[status.st_dev, status.st_ino] = status.st_blocks
    return Usage(512 * sum(blocks.values()), 512 * sum(os.lstat(top).st_blocks for top in tops))


def trees(layout: StoreLayout) -> dict[str, int]:
    """The inode of each tree's directory, by digest."""
    found = {}
    for name in os.listdir(layout.trees):
        with suppress(FileNotFoundError):
            found[name] = os.stat(layout.tree(name)).st_ino
    return found


def wrong_trees(layout: StoreLayout, truth: Truth, touched: Callable[[int, float], bool]) -> Iterator[str]:
    """Trees that are not what the origin served. `touched` tells of an inode, and of a time since when, whether the
    cleaner was there."""
    for digest, inode in trees(layout).items():
        tree = TreeLayout(layout.tree(digest))
        complaint = _complaint(tree, truth.get(digest))
        if complaint is None:
            continue
        with suppress(FileNotFoundError):
            # Another may have its name by now, or nobody: then all that was seen is that it was on its way out.
            if os.stat(tree.path).st_ino == inode and not touched(inode, _published_at(tree)):
                yield f"the tree {digest[:12]} is wrong: {complaint}"


def orphaned_trees(layout: StoreLayout) -> list[str]:
    """The digests of trees that no record names and nobody holds."""
    named = set(recorded(layout).values())
    return [digest for digest in trees(layout) if digest not in named and not is_held(layout.lease(digest))]


def recorded(layout: StoreLayout) -> dict[str, str]:
    """The digests that the records name, by key."""
    found = {}
    for name in os.listdir(layout.handles):
        if name.endswith(".json"):
            with suppress(FileNotFoundError, ValueError), open(f"{layout.handles}/{name}") as file:
                found[name.removesuffix(".json")] = str(json.load(file)["digest"])
    return found


def missing_trees(layout: StoreLayout) -> list[str]:
    """The keys of records whose tree is gone."""
    return [key for key, digest in recorded(layout).items() if not os.path.lexists(layout.tree(digest))]


def wrong_views(layout: StoreLayout) -> list[str]:
    """Links in ``handles/`` that contradict the record or lead nowhere."""
    named = recorded(layout)
    wrong = []
    for key in filter(is_digest, os.listdir(layout.handles)):
        with suppress(FileNotFoundError):
            digest = digest_of_target(os.readlink(layout.handle_link(key)))
            if digest is None or digest != named.get(key) or not os.path.lexists(layout.tree(digest)):
                wrong.append(key)
    return wrong


def leftovers(layout: StoreLayout) -> list[str]:
    """What lies in ``staging/`` though no fetch runs, partial downloads that can go on left out, and the trash."""
    staged = [f"staging/{name}" for name in os.listdir(layout.staging) if not _is_partial(layout.staging_entry(name))]
    return staged + [f"trash/{name}" for name in os.listdir(layout.trash)]


def is_held(lease: str) -> bool:
    """Whether anybody holds it: asked of the kernel, without taking it for a moment."""
    try:
        fd = os.open(lease, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)
    finally:
        os.close(fd)


def _complaint(tree: TreeLayout, known: Mapping[str, str] | None) -> str | None:
    if known is None:
        return "the origin never served that"
    found = {
        os.path.relpath(f"{directory}/{name}", tree.module)
        for directory, _, names in os.walk(tree.module)
        for name in names
    }
    if found != set(known):
        return f"files missing or too many: {sorted(found ^ set(known))[:5]}"
    try:
        for path, sha256 in known.items():
            with open(tree.file(path), "rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                    return f"{path} has other bytes"
        with open(tree.manifest) as file:
            if {path: entry["sha256"] for path, entry in json.load(file)["files"].items()} != dict(known):
                return "its manifest says something else"
        with open(tree.listing, "rb") as file:
            if (differs := listing.first_difference(tree.module, listing.parse(file.read()))) is not None:
                return f"its listing is wrong about {differs}"
        os.stat(tree.lease)
    except (OSError, ValueError, KeyError) as error:
        return str(error)
    return None


def _published_at(tree: TreeLayout) -> float:
    """Unix seconds; 0 when that cannot be known any more."""
    try:
        return os.stat(tree.listing).st_mtime
    except FileNotFoundError:
        return 0.0


def _is_partial(path: str) -> bool:
    with suppress(OSError):
        return _TRANSFER in os.listdir(path) and not any(name.startswith("tree-") for name in os.listdir(path))
    return False

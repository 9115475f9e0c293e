"""Taking a directory as the cache: make it, or recognise it, and hold it for as long as the daemon lives.

Law: a cache has one daemon, and what hubd did not make it does not change.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import time
from contextlib import suppress

from hubclient.contract import mounts, places
from hubclient.contract.layout import LAYOUT_VERSION
from hubclient.contract.lease import Lease
from hubd.store.disk import Disk, read_file
from hubd.store.hold import CacheHold
from hubd.store.layout import StoreLayout

_CACHEDIR_TAG = (
    b"Signature: 8a477f597d28d172789f06886806bc55\n"
    b"# This directory is hubd's cache of TensorFlow Hub modules. What is lost here is fetched again.\n"
)
_MAX_FILE_BYTES = 1 << 16
_HOLDER_ROUNDS = 100
_HOLDER_PAUSE_SECONDS = 0.02


class CacheUnusable(Exception):
    """This directory cannot be the cache; the text tells whoever starts the daemon why, and what to do."""


def adopt(
    root: str,
    *,
    socket: str,
    allow_network_filesystem: bool = False,
    is_private: bool = False,
    disk: Disk | None = None,
) -> CacheHold:
    """Make the directory a cache if it is none yet, and hold it. `socket` is told to whoever looks for its daemon.
    `is_private`: one that is made here is closed to all other users.

    Raises `CacheUnusable`: on a network file system (unless allowed), for a directory that someone else can write to,
    that holds names of the layout without being a cache, or a newer layout, and when another daemon holds it.
    """
    disk = disk or Disk()
    # Links are followed once, here: retargeting one later moves nothing.
    layout = StoreLayout(os.path.realpath(root))
    try:
        if not allow_network_filesystem:
            _refuse_network_file_system(layout.root)
        if (fault := places.fault_of_ancestors(layout.root, (0, os.geteuid()))) is not None:
            raise CacheUnusable(
                f"cannot use {layout.root} as the cache: {fault}, and whoever can could put another directory in its "
                "place; choose another directory"
            )
        _make_root(layout.root, 0o700 if is_private else 0o755, disk)
        _check_directory(layout.root)
        _recognise(layout, disk)
        _make(layout.staging, 0o700, layout, disk)
        guard = _take_guard(layout)
        try:
            _settle(layout, disk)
            return CacheHold(layout, guard, socket, disk)
        except BaseException:
            os.close(guard)
            raise
    except OSError as error:
        path = error.filename or layout.root
        raise CacheUnusable(f"cannot use {layout.root} as the cache: {path}: {error.strerror or error}") from error


def _refuse_network_file_system(root: str) -> None:
    existing = root
    while not os.path.isdir(existing) and existing != "/":
        existing = os.path.dirname(existing)
    file_system = mounts.file_system(existing)
    if mounts.is_network(file_system):
        raise CacheUnusable(
            f"{root} is on a network file system ({file_system}), where locks and renames are not what the cache "
            "needs: set cache.dir (or TFHUB_CACHE_DIR) to a local directory, or cache.allow_network_filesystem = true"
        )


def _make_root(root: str, mode: int, disk: Disk) -> None:
    missing = []
    above = root
    while not os.path.lexists(above):
        missing.append(above)
        above = os.path.dirname(above)
    for directory in reversed(missing):
        with suppress(FileExistsError):
            disk.mkdir(directory, mode if directory == root else 0o755)


def _check_directory(path: str) -> None:
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode):
        raise CacheUnusable(f"{path} is not a directory: move it away, or choose another cache.dir")
    uid = os.geteuid()
    if status.st_uid not in (uid, 0):
        raise CacheUnusable(
            f"{path} belongs to uid {status.st_uid}, and hubd runs as uid {uid}: chown it, or choose another cache.dir"
        )
    if status.st_mode & 0o022:
        raise CacheUnusable(f"{path} can be written to by others: chmod go-w {path}, or choose another cache.dir")
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        raise CacheUnusable(
            f"the file system of {path} is read-only, which the kernel also does after an error of the disk (see "
            "dmesg): mount it writable, or choose another cache.dir; clients go on with what is cached there"
        )
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise CacheUnusable(f"hubd (uid {uid}) may not write to {path}: chown it, or choose another cache.dir")


def _recognise(layout: StoreLayout, disk: Disk) -> None:
    # The names first: whoever adopts at the same time writes `layout` before any other name.
    in_the_way = sorted(layout.names.intersection(os.listdir(layout.root)))
    if not os.path.lexists(layout.version_file):
        if in_the_way:
            raise CacheUnusable(
                f"{layout.root} is no cache of hubd's, and these names in it are in the way: {', '.join(in_the_way)}; "
                "move them away, or choose another cache.dir"
            )
        _write_version(layout, disk)
    try:
        version = int(read_file(layout.version_file, _MAX_FILE_BYTES))
    except ValueError:
        raise CacheUnusable(
            f"{layout.version_file} does not hold a layout version: restore it, or choose another cache.dir"
        ) from None
    if version != LAYOUT_VERSION:
        raise CacheUnusable(
            f"{layout.root} has layout version {version}, and this hubd knows version {LAYOUT_VERSION}: "
            "upgrade hubd, or choose another cache.dir"
        )


def _write_version(layout: StoreLayout, disk: Disk) -> None:
    temporary = layout.new_temporary_layout()
    disk.write_file(temporary, f"{LAYOUT_VERSION}\n".encode(), 0o644)
    # A link, not a rename: what another daemon wrote first is not replaced. It may also have swept the temporary file.
    with suppress(FileExistsError, FileNotFoundError):
        disk.link(temporary, layout.version_file)
    with suppress(FileNotFoundError):
        disk.unlink(temporary)
    disk.fsync_directory(layout.root)


def _make(path: str, mode: int, layout: StoreLayout, disk: Disk) -> None:
    if not os.path.lexists(path):
        if path == layout.staging:
            with suppress(FileExistsError):
                disk.mkdir(path, mode)
        else:
            # Under its name only with its mode: killed between the two, it would keep a wrong one.
            temporary = layout.new_staging()
            disk.mkdir(temporary, mode)
            disk.rename(temporary, path)
    _check_directory(path)


def _take_guard(layout: StoreLayout) -> int:
    """The lock that decides who is the daemon: on ``staging/``, which nobody else can even open.

    Others can open ``daemon.lock``, and could lock it against the next daemon for good.
    """
    guard = os.open(layout.staging, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        for _ in range(_HOLDER_ROUNDS):
            try:
                fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                free = False
            else:
                free = True
            holder = _holder(layout)
            if holder is not None:
                raise CacheUnusable(f"another hubd holds {layout.root}: {holder}")
            if free:
                return guard
            time.sleep(_HOLDER_PAUSE_SECONDS)  # it is just starting, and has not said yet who it is, or just ending
        raise CacheUnusable(f"another process holds {layout.staging} and does not say who it is: try fuser on it")
    except BaseException:
        os.close(guard)
        raise


def _holder(layout: StoreLayout) -> str | None:
    """Who holds the cache, as its ``daemon.lock`` says; None when nobody has that locked."""
    try:
        Lease.share(layout.daemon_lock).release()
    except BlockingIOError:
        pass
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):
            return None
        raise
    else:
        return None
    try:
        daemon = json.loads(read_file(layout.daemon_lock, _MAX_FILE_BYTES))
        return f"pid {int(daemon['pid'])}, socket {daemon['socket']}"
    except (ValueError, TypeError, KeyError):
        return f"{layout.daemon_lock} is locked, but does not say by whom"


def _settle(layout: StoreLayout, disk: Disk) -> None:
    """With the guard taken: whatever is missing."""
    for temporary in layout.temporary_layouts():
        with suppress(FileNotFoundError):
            disk.unlink(temporary)
    for path, mode in layout.directories.items():
        _make(path, mode, layout, disk)
    if not os.path.lexists(layout.cachedir_tag):
        disk.replace_file(layout.cachedir_tag, _CACHEDIR_TAG, 0o644, layout.new_staging())

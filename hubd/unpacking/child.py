"""The unpacking child: one archive to one directory, in a process of its own with limits of its own.

Run as ``python -P -m hubd.unpacking.child [--plain] ARCHIVE TREE PARENT_PID`` and the limits, by
`supervisor.Unpacker` only; ``--plain``: the archive is a tar as it is, not gzipped. It reads the frontier on stdin (see
`spool`), writes ``TREE/module/`` and tells on stdout, in JSON lines: ``{"idle": offset}`` before it waits,
``{"room": [bytes, announced]}`` before it needs so much of the disk, ``{"unpacked": bytes}`` now and then,
``{"file": [path, bytes, sha256]}`` for each file, and last ``{"report": {...}}`` or ``{"error": {"code", "detail"}}``.

Law: whatever the archive holds, this process ends by itself with one of these two, or is killed by a limit.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import sys
import time
from threading import Lock
from typing import Any

from hubclient.contract import saved_model
from hubclient.contract.errors import ArchiveUnsafe, DiskFull, HubError, NotAModule
from hubd.unpacking.gzip_stream import inflate
from hubd.unpacking.kernel import die_with_parent, take_turns
from hubd.unpacking.names import ArchiveLimits, Namespace, shown
from hubd.unpacking.spool import DaemonGone, Spool
from hubd.unpacking.tar_reader import TarReader
from hubd.unpacking.tree_writer import TreeWriter

EXIT_DAEMON_GONE = 3

# What a tar archive holds beside the files' bytes: headers, long names and padding for each member, zeros at the end.
_OVERHEAD_BYTES = 1024 * 1024
_OVERHEAD_BYTES_PER_FILE = 4096
_PROGRESS_SECONDS = 0.1
_MAX_OPEN_FILES = 256
_SHOWN_NAMES = 5
# A header may announce what never comes: no module is evicted for more than this beyond what is there.
_ROOM_STEP_BYTES = 64 * 1024 * 1024
_DISK_BLOCK_BYTES = 4096  # what files and directories take is a multiple of it, on nearly every file system


class Teller:
    """Writes whole JSON lines to the daemon, from any thread."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = Lock()

    def tell(self, what: str, value: Any) -> None:
        line = memoryview(json.dumps({what: value}, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
        with self._lock:
            while line:
                line = line[os.write(self._fd, line) :]

    def tell_error(self, error: HubError) -> None:
        self.tell("error", {"code": error.code, "detail": error.detail, "peak_rss_bytes": _peak_rss_bytes()})

    def tell_file(self, path: str, size_bytes: int, sha256: str) -> None:
        self.tell("file", [path, size_bytes, sha256])


def main(arguments: list[str]) -> int:
    is_plain = arguments[0] == "--plain"
    archive, tree, parent_pid, *numbers = arguments[is_plain:]
    module_bytes, files, depth, path_bytes, memory_bytes, time_seconds = map(int, numbers)
    _confine(module_bytes, memory_bytes, time_seconds)
    if not die_with_parent(int(parent_pid)):
        return EXIT_DAEMON_GONE
    take_turns(None)  # not as the daemon, which answers
    teller = Teller(sys.stdout.fileno())
    try:
        try:
            limits = ArchiveLimits(module_bytes, files, depth, path_bytes)
            teller.tell("report", unpack(archive, tree, limits, teller, is_plain=is_plain))
        except HubError as error:
            teller.tell_error(error)
        except MemoryError:
            teller.tell_error(ArchiveUnsafe(f"unpacking needs more memory than the limit of {memory_bytes} bytes"))
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            teller.tell_error(DiskFull("the disk became full while the archive was unpacked"))
    except (DaemonGone, BrokenPipeError):
        return EXIT_DAEMON_GONE
    return 0


def unpack(archive: str, tree: str, limits: ArchiveLimits, teller: Teller, *, is_plain: bool) -> dict[str, Any]:
    """Unpack to the end; the report. `is_plain`: a tar, not gzipped."""
    spool = Spool(
        archive,
        sys.stdin.fileno(),
        on_idle=lambda offset: teller.tell("idle", offset),
        on_room=lambda size_bytes, announced_bytes: teller.tell("room", [size_bytes, announced_bytes]),
    )
    max_inflated_bytes = limits.module_bytes + limits.files * _OVERHEAD_BYTES_PER_FILE + _OVERHEAD_BYTES
    reader = TarReader(spool.read if is_plain else inflate(spool.read, max_inflated_bytes), limits)
    writer = TreeWriter(f"{tree}/module", teller.tell_file)
    names = Namespace(limits)
    unpacked_bytes = disk_bytes = 0
    told_at = float("-inf")  # the first piece says that it is an archive
    for member in reader.members():
        new_directories = (names.add_directory if member.is_directory else names.add_file)(member.path)
        disk_bytes += _DISK_BLOCK_BYTES * len(new_directories)
        file_bytes = 0 if member.is_directory else -(-member.size_bytes // _DISK_BLOCK_BYTES) * _DISK_BLOCK_BYTES
        room_bytes = min(file_bytes, _ROOM_STEP_BYTES)
        spool.await_room(disk_bytes + room_bytes, disk_bytes + file_bytes)
        for path in new_directories:
            writer.add_directory(path)
        if member.is_directory:
            continue
        writer.begin_file(member.path, member.size_bytes)
        written_bytes = 0
        for piece in reader.content():
            written_bytes += len(piece)
            if written_bytes > room_bytes:
                room_bytes = min(file_bytes, written_bytes + _ROOM_STEP_BYTES)
                spool.await_room(disk_bytes + room_bytes, disk_bytes + file_bytes)
            writer.write(piece)
            unpacked_bytes += len(piece)
            if time.monotonic() - told_at >= _PROGRESS_SECONDS:
                teller.tell("unpacked", unpacked_bytes)
                told_at = time.monotonic()
        writer.end_file()
        disk_bytes += file_bytes
    teller.tell("unpacked", unpacked_bytes)
    module_format = _format(names)
    writer.finish(names.directories)
    return {
        "format": module_format,
        "meta_graphs": _meta_graphs(names, writer.root_fd),
        "size_bytes": unpacked_bytes,
        "peak_rss_bytes": _peak_rss_bytes(),
    }


def _format(names: Namespace) -> str:
    if names.has_file("tfhub_module.pb"):
        return "tf1"
    if names.has_file("saved_model.pb") or names.has_file("saved_model.pbtxt"):
        return "saved_model"
    at_root = names.root_names()
    if not at_root:
        raise NotAModule("the archive is empty")
    if len(at_root) == 1 and names.has_file(at_root[0] + "saved_model.pb"):
        raise NotAModule(f"the module lies in the extra top directory {shown(at_root[0])}: pack what is inside it")
    listed = ", ".join(map(shown, at_root[:_SHOWN_NAMES])) + (", ..." if len(at_root) > _SHOWN_NAMES else "")
    raise NotAModule(
        f"the archive has no saved_model.pb, saved_model.pbtxt or tfhub_module.pb at its root, but {listed}"
    )


def _meta_graphs(names: Namespace, root_fd: int) -> list[dict[str, Any]]:
    if not names.has_file("saved_model.pb"):
        return []
    fd = os.open("saved_model.pb", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root_fd)
    try:
        return saved_model.to_json(saved_model.read_fd(fd))
    except saved_model.SavedModelError as error:
        raise NotAModule(f"the archive's saved_model.pb is damaged: {error}") from None
    finally:
        os.close(fd)


def _confine(module_bytes: int, memory_bytes: int, time_seconds: int) -> None:
    os.umask(0o022)
    cpu_seconds = 2 * time_seconds + 10  # two threads; the supervisor's clock comes first, this is the net below it
    for limit, soft, hard in (
        (resource.RLIMIT_AS, memory_bytes, memory_bytes),
        (resource.RLIMIT_FSIZE, module_bytes, module_bytes),
        (resource.RLIMIT_CPU, cpu_seconds, cpu_seconds + 5),  # at the soft limit comes SIGXCPU, which tells the reason
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_NOFILE, _MAX_OPEN_FILES, _MAX_OPEN_FILES),
    ):
        allowed = resource.getrlimit(limit)[1]
        if allowed != resource.RLIM_INFINITY:
            soft, hard = min(soft, allowed), min(hard, allowed)
        resource.setrlimit(limit, (soft, hard))


def _peak_rss_bytes() -> int:
    """The most memory that this process held at once (VmHWM: unlike ru_maxrss it knows nothing of the parent)."""
    try:
        with open("/proc/self/status", "rb") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith(b"VmHWM:"))
    except (OSError, StopIteration):
        return 0


if __name__ == "__main__":
    # Without the interpreter's own end: the helper thread may still be at work on an archive that was refused.
    code = main(sys.argv[1:])
    os._exit(code)

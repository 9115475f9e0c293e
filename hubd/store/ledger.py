"""What the cache takes on disk: an account for each entry of ``trees/``, ``staging/`` and ``trash/``.

Law: bytes are set aside before they are written, and an account is closed only when its entry is gone. So the sum is
never less than what `du` would find.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator

_BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system's own (stat(2))


def disk_bytes(path: str) -> int:
    """What the path and all below it take on disk, each inode counted once; 0 for what is not there.

    What disappears meanwhile counts nothing. Raises `OSError` for what cannot be looked at.
    """
    seen: set[tuple[int, int]] = set()
    total = 0
    for status in _statuses(path):
        if status.st_nlink > 1:
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
        total += status.st_blocks * _BLOCK_BYTES
    return total


def _statuses(path: str) -> Iterator[os.stat_result]:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    yield status
    pending = [path] if stat.S_ISDIR(status.st_mode) else []
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
                    yield status
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
        except (FileNotFoundError, NotADirectoryError):
            continue


class Account:
    """One entry's bytes: `reserved_bytes` are set aside, of which `written_bytes` are known to be on the disk."""

    __slots__ = ("reserved_bytes", "written_bytes")

    def __init__(self, reserved_bytes: int, written_bytes: int) -> None:
        self.reserved_bytes = reserved_bytes
        self.written_bytes = written_bytes

    @property
    def unwritten_bytes(self) -> int:
        return max(0, self.reserved_bytes - self.written_bytes)


class Ledger:
    """The accounts of one cache, by path. Thread-safe."""

    def __init__(self) -> None:
        self._accounts: dict[str, Account] = {}
        self._reserved: dict[str, Account] = {}  # those of them that bytes were set aside for
        self._used_bytes = 0
        self._lock = threading.Lock()

    @property
    def used_bytes(self) -> int:
        """What is on the disk or set aside."""
        return self._used_bytes

    @property
    def unwritten_bytes(self) -> int:
        """What is set aside and not yet on the disk."""
        with self._lock:
            return sum(account.unwritten_bytes for account in self._reserved.values())

    def bytes_of(self, path: str) -> int:
        """What is set down for the path; 0 when it has no account."""
        account = self._accounts.get(path)
        return account.reserved_bytes if account is not None else 0

    def bytes_below(self, directory: str) -> int:
        """What is set down for the entries of a directory of the layout."""
        with self._lock:
            return sum(
                account.reserved_bytes for path, account in self._accounts.items() if path.startswith(directory + "/")
            )

    def set(self, path: str, size_bytes: int) -> None:
        """These bytes are on the disk under this path."""
        with self._lock:
            self._put(path, Account(size_bytes, size_bytes))

    def reserve(self, path: str, reserved_bytes: int) -> None:
        """Set so many bytes aside for the path in all; what was written stays written."""
        with self._lock:
            account = self._accounts.get(path)
            written_bytes = account.written_bytes if account is not None else 0
            self._reserved[path] = self._put(path, Account(reserved_bytes, written_bytes))

    def wrote(self, path: str, written_bytes: int) -> None:
        """So many of the path's bytes are on the disk by now."""
        with self._lock:
            if (account := self._accounts.get(path)) is not None:
                account.written_bytes = written_bytes

    def look_again(self) -> None:
        """Find out on the disk what was written of what is set aside: writers tell it late. Raises `OSError`."""
        for path in list(self._reserved):
            self.wrote(path, disk_bytes(path))

    def hand_over(self, path: str, to: str, size_bytes: int) -> None:
        """Of what was set aside for `path`, so many bytes are on the disk under `to` now."""
        with self._lock:
            if (account := self._accounts.get(path)) is not None:
                left_bytes = max(0, account.reserved_bytes - size_bytes)
                written_bytes = max(0, account.written_bytes - size_bytes)
                self._reserved[path] = self._put(path, Account(left_bytes, written_bytes))
            self._put(to, Account(size_bytes, size_bytes))

    def close(self, path: str) -> None:
        """Nothing is under this path any more."""
        with self._lock:
            self._take(path)

    def _put(self, path: str, account: Account) -> Account:
        self._take(path)
        self._accounts[path] = account
        self._used_bytes += account.reserved_bytes
        return account

    def _take(self, path: str) -> None:
        account = self._accounts.pop(path, None)
        self._reserved.pop(path, None)
        if account is not None:
            self._used_bytes -= account.reserved_bytes

"""The two Linux calls that the child needs and Python does not have."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_SYNC_FILE_RANGE_WRITE = 2  # linux/fs.h

_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent_pid: int) -> bool:
    """Have the kernel kill this process when its parent dies (prctl(2)); False if the parent is gone already."""
    if _libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return os.getppid() == parent_pid  # else it died before the call


def start_writeback(fd: int, offset: int, size_bytes: int) -> None:
    """Begin to write a range of a file to the disk without waiting (sync_file_range(2)): a later fsync waits less.

    A hint only: file systems that do not know it lose nothing but time, so errors mean nothing here.
    """
    _libc.sync_file_range(fd, ctypes.c_int64(offset), ctypes.c_int64(size_bytes), ctypes.c_uint(_SYNC_FILE_RANGE_WRITE))

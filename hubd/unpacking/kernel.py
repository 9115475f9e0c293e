"""The Linux calls that the child needs, and the daemon for its sake, and Python does not have."""

from __future__ import annotations

import ctypes
import os
import signal
import struct

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_SYNC_FILE_RANGE_WRITE = 2  # linux/fs.h
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}.get(
    os.uname().machine
)  # asm/unistd.h; the C library has no name for it
# struct sched_attr (sched_setattr(2)): size, policy, flags, nice, priority, runtime, deadline, period
_SCHED_ATTR = struct.Struct("=IIQiIQQQ")

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


def take_turns(seconds: float | None) -> None:
    """How long this thread has a CPU at one go when others want it too; None: as long as is usual.

    Short turns come soon: whoever wakes up for half a millisecond's work is let in before those who compute. It gets
    no more of the CPU. Threads and processes that are made later inherit it. A hint (Linux 6.12 and newer), so errors
    mean nothing here.
    """
    if _SCHED_SETATTR is not None and os.sched_getscheduler(0) == os.SCHED_OTHER:
        nice, runtime_ns = os.getpriority(os.PRIO_PROCESS, 0), round((seconds or 0.0) * 1e9)
        attributes = _SCHED_ATTR.pack(_SCHED_ATTR.size, os.SCHED_OTHER, 0, nice, 0, runtime_ns, 0, 0)
        _libc.syscall(ctypes.c_long(_SCHED_SETATTR), 0, attributes, 0)

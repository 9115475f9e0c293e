"""The C library's allocator, set for a daemon that takes and frees pieces of a megabyte all the time.

By default glibc gives such memory back to the kernel at once, and faulting it in again is a quarter of what the
kernel does for a fetch. Law: what is kept meanwhile is given back when the fetches are over. Elsewhere than with
glibc this does nothing (mallopt(3), malloc_trim(3)).
"""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD = -1  # malloc.h
_M_MMAP_THRESHOLD = -3
_KEEP_BYTES = 32 << 20
_MMAP_BYTES = 4 << 20


def keep_freed_memory() -> None:
    """From now on, for the whole process."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES)


def give_memory_back() -> None:
    """All that is free now. Takes a few milliseconds: for a thread."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(ctypes.c_size_t(0))

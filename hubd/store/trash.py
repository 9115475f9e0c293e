"""What was taken out of the cache and waits to be deleted: ``trash/``.

Law: the account of an entry is there before the entry, so that whoever empties the trash at that moment closes it.
"""

from __future__ import annotations

import errno
import os

from hubd.store.disk import Disk
from hubd.store.layout import StoreLayout
from hubd.store.ledger import Ledger, disk_bytes


def throw_away(path: str, layout: StoreLayout, ledger: Ledger, disk: Disk, size_bytes: int | None = None) -> int:
    """Move what lies there into the trash, by one rename: the bytes that it takes on disk, 0 if nothing is there.

    `size_bytes`: these, where they are known. Raises `OSError`; all is as it was then.
    """
    trash = layout.new_trash()
    size_bytes = disk_bytes(path) if size_bytes is None else size_bytes
    ledger.set(trash, size_bytes)
    try:
        disk.rename(path, trash)
    except OSError as error:
        ledger.close(trash)
        if not isinstance(error, FileNotFoundError):
            raise
        if os.path.lexists(path):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), layout.trash) from None
        size_bytes = 0
    ledger.close(path)
    return size_bytes


def empty(layout: StoreLayout, ledger: Ledger, disk: Disk) -> None:
    """Delete what is there; what cannot be deleted stays, with a warning. One at a time. Raises `OSError`."""
    for name in os.listdir(layout.trash):
        path = layout.trash_entry(name)
        disk.remove_tree(path)
        if os.path.lexists(path):
            ledger.set(path, disk_bytes(path))
        else:
            ledger.close(path)

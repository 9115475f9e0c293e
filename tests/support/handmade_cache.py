"""A cache as a daemon would have left it, made by hand: tests of the client need no daemon, and no hubd installed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from hubclient.contract import handles, listing, places
from hubclient.contract.layout import LAYOUT_VERSION, CacheLayout, target_of_digest

FILES: Mapping[str, bytes] = {
    "saved_model.pb": b"\x08\x01" + bytes(98),
    "variables/variables.index": bytes(50),
    "variables/variables.data-00000-of-00001": bytes(4000),
    "assets/vocabulary.txt": b"one\ntwo\n",
    "assets/small.txt": b"x",
}


class HandmadeCache:
    """The directories and modules of one cache."""

    def __init__(self, root: Path, *, version: int = LAYOUT_VERSION) -> None:
        self.layout = CacheLayout(str(root))
        for directory, mode in ((root, 0o755), (Path(self.layout.handles), 0o711), (Path(self.layout.trees), 0o711)):
            directory.mkdir()
            directory.chmod(mode)
        Path(self.layout.version_file).write_text(f"{version}\n")

    @property
    def root(self) -> str:
        return self.layout.root

    def add(
        self, handle: str, files: Mapping[str, bytes] = FILES, *, direct_for_seconds: float = 3600.0, name: str = ""
    ) -> str:
        """The digest of a module that is cached under the handle. Its content and `name` decide the digest."""
        digest = hashlib.sha256(repr((sorted(files.items()), name)).encode()).hexdigest()
        if not os.path.exists(self.layout.tree(digest)):
            self.write_tree(digest, files)
        self.point(handle, digest, direct_for_seconds=direct_for_seconds)
        return digest

    def write_tree(self, digest: str, files: Mapping[str, bytes] = FILES) -> None:
        """A tree with a new lease."""
        module = Path(self.layout.module(digest))
        for path, content in files.items():
            file = module / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        Path(self.layout.lease(digest)).touch(mode=0o644)
        self.write_listing(digest)

    def write_listing(self, digest: str) -> None:
        """The listing that says what the files of a tree are now."""
        module = Path(self.layout.module(digest))
        entries = []
        for file in module.rglob("*"):
            if file.is_file():
                status = file.stat()
                entries.append(listing.Entry(status.st_size, status.st_mtime_ns, str(file.relative_to(module))))
        Path(self.layout.listing(digest)).write_bytes(listing.dump(entries))

    def point(self, handle: str, digest: str, *, direct_for_seconds: float = 3600.0) -> None:
        """Make the handle's link lead to a tree, for direct use for so long."""
        link = self.link(handle)
        link.unlink(missing_ok=True)
        link.symlink_to(target_of_digest(digest))
        until = time.time() + direct_for_seconds
        os.utime(link, (until, until), follow_symlinks=False)

    def link(self, handle: str) -> Path:
        return Path(self.layout.handle_link(handles.key(handles.canonical(handle))))

    def file(self, digest: str, path: str = "saved_model.pb") -> Path:
        return Path(self.layout.module(digest)) / path

    def remove_tree(self, digest: str) -> None:
        shutil.rmtree(self.layout.tree(digest))

    def write_daemon_lock(self, socket: str, *, boot_id: str | None = None) -> None:
        """What a daemon that listens on `socket` says of itself."""
        said = {"pid": os.getpid(), "boot_id": boot_id or places.boot_id(), "socket": socket}
        Path(self.layout.daemon_lock).write_text(json.dumps(said))


def is_leased(layout: CacheLayout, digest: str) -> bool:
    """Whether anyone holds a lease on the tree."""
    from hubclient.contract.lease import Lease

    try:
        Lease.exclusive(layout.lease(digest)).release()
    except BlockingIOError:
        return True
    return False

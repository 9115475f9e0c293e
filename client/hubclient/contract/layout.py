"""The cache on disk as its readers see it: every path that a client may open. Layout version 1.

Law: nobody joins paths of the cache outside this file and the daemon's extension of it (``hubd/store/layout.py``).
"""

from __future__ import annotations

from typing import NamedTuple

LAYOUT_VERSION = 1

_TARGET_PREFIX = "../trees/"
_HEX = frozenset("0123456789abcdef")


def is_digest(text: str) -> bool:
    """Whether the text is a lower-case hex sha256, the form of every key and digest."""
    return len(text) == 64 and _HEX.issuperset(text)


def digest_of_target(target: str) -> str | None:
    """The digest that a link in ``handles/`` points to; None unless it reads ``../trees/<64 hex>`` exactly."""
    digest = target[len(_TARGET_PREFIX) :]
    return digest if target.startswith(_TARGET_PREFIX) and is_digest(digest) else None


def target_of_digest(digest: str) -> str:
    """What the link ``handles/<key>`` reads."""
    return _TARGET_PREFIX + digest


class CacheLayout:
    """The paths of one cache. Paths are strings: on the hit path each microsecond counts."""

    __slots__ = ("handles", "root", "tfhub", "trees")

    def __init__(self, root: str) -> None:
        self.root = root
        self.handles = root + "/handles"
        self.trees = root + "/trees"
        self.tfhub = root + "/tfhub"

    @property
    def version_file(self) -> str:
        """Holds the layout's version as a decimal number; a directory without it is no cache."""
        return self.root + "/layout"

    @property
    def daemon_lock(self) -> str:
        """JSON ``{pid, boot_id, socket}`` of the daemon that holds the cache, locked for as long as it lives.

        What else it says (``clean_point`` and ``stopped``) is for the next daemon.
        """
        return self.root + "/daemon.lock"

    def handle_link(self, key: str) -> str:
        return f"{self.handles}/{key}"

    def tree(self, digest: str) -> str:
        return f"{self.trees}/{digest}"

    def module(self, digest: str) -> str:
        """What users get: the SavedModel directory."""
        return f"{self.trees}/{digest}/module"

    def lease(self, digest: str) -> str:
        return f"{self.trees}/{digest}/lease"

    def listing(self, digest: str) -> str:
        """A tree without it is not served: it is damaged, or must be checked first."""
        return f"{self.trees}/{digest}/files"

    def manifest(self, digest: str) -> str:
        """JSON: sizes and digests of the files, tags and signatures."""
        return f"{self.trees}/{digest}/manifest.json"


class PlaceOfModule(NamedTuple):
    """Whose module it is that lies at a path."""

    layout: CacheLayout
    digest: str


def layout_of_module(path: str) -> PlaceOfModule | None:
    """The cache in which a path is a module's, and the digest of its tree; None when it lies elsewhere."""
    trees, _, digest = path.removesuffix("/module").rpartition("/")
    layout = CacheLayout(trees.removesuffix("/trees"))
    return PlaceOfModule(layout, digest) if is_digest(digest) and layout.module(digest) == path else None

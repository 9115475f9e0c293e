"""Every path of the cache that the daemon writes: the reader's layout and what only the daemon sees.

Law: nobody joins paths of the cache outside this file and the contract's ``layout.py``.
"""

from __future__ import annotations

import os
import secrets

from hubclient.contract import handles
from hubclient.contract.layout import CacheLayout, is_digest

_TEMPORARY_LAYOUT_PREFIX = ".layout-"


class StoreLayout(CacheLayout):
    """The paths of one cache as its daemon sees them. Random names are new with every call."""

    __slots__ = ("staging", "trash")

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.staging = root + "/staging"
        self.trash = root + "/trash"

    @property
    def cachedir_tag(self) -> str:
        """Tells backup programs to leave the cache out (https://bford.info/cachedir/)."""
        return self.root + "/CACHEDIR.TAG"

    @property
    def directories(self) -> dict[str, int]:
        """The directories directly below the root, with their modes; ``staging`` first."""
        return {self.staging: 0o700, self.trash: 0o700, self.handles: 0o711, self.trees: 0o711, self.tfhub: 0o711}

    @property
    def names(self) -> frozenset[str]:
        """What a directory must not hold to become a cache: the names of this layout, ``layout`` itself left out."""
        paths = (*self.directories, self.cachedir_tag, self.daemon_lock)
        return frozenset(os.path.basename(path) for path in paths)

    def record(self, key: str) -> str:
        return f"{self.handles}/{key}.json"

    @property
    def salt(self) -> str:
        """What nobody else knows: it is in the names of private records, or they could be guessed and looked for."""
        return f"{self.handles}/salt"

    def unchecked(self, digest: str) -> str:
        """The listing of a tree that is not to be served before a deep check; it has no other then."""
        return f"{self.trees}/{digest}/files.unchecked"

    def is_withdrawn(self, digest: str) -> bool:
        """Whether the tree is there without its listing, and so not to be served: it is damaged, or unchecked."""
        return not os.path.lexists(self.listing(digest)) and os.path.lexists(self.tree(digest))

    def tfhub_view(self, spelling: str) -> str:
        return f"{self.tfhub}/{handles.spelling_name(spelling)}"

    def tfhub_entry(self, name: str) -> str:
        return f"{self.tfhub}/{name}"

    def new_staging(self) -> str:
        """A place of its own for one fetch, or for one file before its rename."""
        return f"{self.staging}/{secrets.token_hex(8)}"

    def trash_entry(self, name: str) -> str:
        return f"{self.trash}/{name}"

    def staging_entry(self, name: str) -> str:
        return f"{self.staging}/{name}"

    def new_trash(self) -> str:
        return f"{self.trash}/{secrets.token_hex(8)}"

    def new_temporary_layout(self) -> str:
        """The layout file before it has its name: there is no ``staging`` yet when it is written."""
        return f"{self.root}/{_TEMPORARY_LAYOUT_PREFIX}{secrets.token_hex(8)}"

    def temporary_layouts(self) -> list[str]:
        """What adoptions that were killed left behind."""
        return [f"{self.root}/{name}" for name in os.listdir(self.root) if name.startswith(_TEMPORARY_LAYOUT_PREFIX)]


class StagingLayout:
    """The paths inside one ``staging/<random>/``."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path

    @property
    def archive(self) -> str:
        return self.path + "/archive.part"

    @property
    def transfer(self) -> str:
        """What is known of the archive when a later fetch is to go on with it."""
        return self.path + "/transfer.json"

    def entry(self, name: str) -> str:
        return f"{self.path}/{name}"

    def tree(self, attempt: int) -> str:
        return f"{self.path}/tree-{attempt}"


class TreeLayout:
    """The paths inside one tree, wherever it lies."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path

    @property
    def module(self) -> str:
        return self.path + "/module"

    def file(self, path: str) -> str:
        """A file of the module; the path is the manifest's."""
        return f"{self.path}/module/{path}"

    @property
    def manifest(self) -> str:
        return self.path + "/manifest.json"

    @property
    def listing(self) -> str:
        return self.path + "/files"

    @property
    def unchecked(self) -> str:
        """What its listing is called until a deep check."""
        return self.path + "/files.unchecked"

    @property
    def lease(self) -> str:
        return self.path + "/lease"


def tfhub_target(digest: str) -> str:
    """What the view ``tfhub/<sha1>`` reads."""
    return f"../trees/{digest}/module"


def digest_of_tfhub_target(target: str) -> str | None:
    """The digest that a view in ``tfhub/`` points to; None when the link is none of ours."""
    digest = target.removeprefix("../trees/").removesuffix("/module")
    return digest if tfhub_target(digest) == target and is_digest(digest) else None

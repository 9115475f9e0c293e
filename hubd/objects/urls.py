"""What is in an object store, and where.

Law: a path has no slash at its ends, and no segment that climbs.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from hubclient.contract import handles


class ObjectUrl(NamedTuple):
    """``scheme://bucket/path``. The path is empty for a whole bucket."""

    scheme: str
    bucket: str
    path: str

    @classmethod
    def parse(cls, text: str) -> ObjectUrl:
        """Of a canonical handle, or a setting. Raises `HandleInvalid`."""
        return cls(*handles.object_parts(text))

    def __str__(self) -> str:
        return f"{self.root}/{self.path}" if self.path else self.root

    @property
    def root(self) -> str:
        """The bucket's own URL."""
        return f"{self.scheme}://{self.bucket}"


class ObjectInfo(NamedTuple):
    """What a listing tells of one object. The time is the store's."""

    path: str
    size_bytes: int
    etag: str | None
    modified_at: datetime


class Version(NamedTuple):
    """Which of its contents an object had: what `replace` compares. Stores tell one of them, or both."""

    etag: str | None
    version: str | None = None

"""What the tier was good for, since the daemon began; and what is on its way to the store.

Law: each question counts once, by how it ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple


class Upload(NamedTuple):
    """One that is under way."""

    handle: str
    key: str
    sent_bytes: int
    total_bytes: int


@dataclass
class Figures:
    """`waited`: of all questions, those that waited for another machine; `taken_over`: of what was `claimed`, what
    another machine had claimed before, which is gone or has failed. `downloaded_bytes` is for whoever downloads
    to count.
    """

    found: int = 0
    waited: int = 0
    claimed: int = 0
    taken_over: int = 0
    alone: int = 0
    uploaded: int = 0
    uploaded_bytes: int = 0
    downloaded_bytes: int = 0
    uploads: dict[str, Upload] = field(default_factory=dict)  # by key

    @contextmanager
    def uploading(self, *, handle: str, key: str, total_bytes: int) -> Iterator[Callable[[int], None]]:
        """Counts an upload, for the block; it is to be told how many bytes were sent so far."""

        def sent(sent_bytes: int) -> None:
            self.uploads[key] = Upload(handle, key, sent_bytes, total_bytes)

        sent(0)
        try:
            yield sent
        finally:
            self.uploads.pop(key, None)
        self.uploaded += 1
        self.uploaded_bytes += total_bytes

"""What prefetch files pin, by key.

Law: the files are the truth, and this is derived from them: it is never stored, and replaced as a whole.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping


class Pins:
    """The names of the files that pin a module. Thread-safe: a change is one assignment."""

    def __init__(self) -> None:
        self._files: Mapping[str, tuple[str, ...]] = {}

    def replace(self, files: Mapping[str, Collection[str]]) -> None:
        """These are the pins from now on: by the key of each module, the names of the files."""
        self._files = {key: tuple(sorted(names)) for key, names in files.items() if names}

    def of(self, key: str) -> tuple[str, ...]:
        """The files that pin it, sorted."""
        return self._files.get(key, ())

    def __contains__(self, key: str) -> bool:
        return key in self._files

"""What a tree says about itself: ``manifest.json``.

Law: two archives with equal `content_digest` unpack to the same files, whatever packed them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
SizeBytes = Annotated[int, Field(ge=0)]


def _inside(path: str) -> str:
    if any(character < " " or character == "\x7f" for character in path):
        raise ValueError("a path has no control characters")
    if any(segment in ("", ".", "..") for segment in path.split("/")):
        raise ValueError("a path is relative and has no empty, '.' or '..' segment")
    return path


class FileEntry(BaseModel):
    """One file of the module."""

    model_config = ConfigDict(frozen=True)

    size_bytes: SizeBytes
    sha256: Sha256


class Manifest(BaseModel):
    """A module's files and what its SavedModel offers."""

    model_config = ConfigDict(frozen=True)

    digest: Sha256
    content_digest: Sha256
    archive_bytes: SizeBytes
    size_bytes: SizeBytes
    format: str
    files: dict[Annotated[str, AfterValidator(_inside)], FileEntry]
    meta_graphs: list[dict[str, Any]]

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.content_digest != content_digest(self.files):
            raise ValueError("content_digest is not that of the files")
        return self


def content_digest(files: Mapping[str, FileEntry]) -> str:
    """Hex sha256 over the lines ``<sha256>  <path>``, sorted by the path's bytes: what ``sha256sum`` prints."""
    whole = hashlib.sha256()
    for path in sorted(files, key=lambda path: path.encode()):
        whole.update(f"{files[path].sha256}  {path}\n".encode())
    return whole.hexdigest()

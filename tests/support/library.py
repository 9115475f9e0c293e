"""A library of modules on the disk, for the host: directories that nobody has written to for a while."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from tests.support.archives import MODULE, archive

#: No library waits for a clock in tests that are about something else.
AT_ONCE = 0.0


def put(root: Path, name: str, files: Mapping[str, bytes] = MODULE, **more: bytes) -> Path:
    """A module's directory, which appears by one rename. `more`: further files, ``__`` for a dot."""
    target = root / name
    staged = target.with_name(f".{target.name}.part")
    for path, data in {**files, **{key.replace("__", "."): value for key, value in more.items()}}.items():
        (staged / path).parent.mkdir(parents=True, exist_ok=True)
        (staged / path).write_bytes(data)
    os.rename(staged, target)
    return target


def put_archive(root: Path, name: str, data: bytes | None = None) -> Path:
    """``<name>.tar.gz``, by one rename."""
    target = root / f"{name}.tar.gz"
    target.parent.mkdir(parents=True, exist_ok=True)
    staged = target.with_name(f".{target.name}.part")
    staged.write_bytes(archive() if data is None else data)
    os.rename(staged, target)
    return target

"""Runs the real unpacking child over bytes, as the daemon does."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

from hubclient.contract.errors import HubError
from hubd.unpacking.supervisor import Unpacker, UnpackLimits, UnpackReport

LIMITS = UnpackLimits(
    module_bytes=10_000_000,
    files=100,
    depth=8,
    path_bytes=300,
    memory_bytes=256 * 1024 * 1024,
    time_seconds=60,
)


@dataclasses.dataclass(frozen=True)
class Outcome:
    report: UnpackReport | None
    error: HubError | None
    peak_rss_bytes: int


def prepare(tmp_path: Path, data: bytes) -> tuple[str, str]:
    """A spool that holds these bytes, and an empty directory to unpack into."""
    spool, tree = tmp_path / "archive.part", tmp_path / "tree-1"
    spool.write_bytes(data)
    tree.mkdir(mode=0o700)
    return str(spool), str(tree)


async def run(tmp_path: Path, data: bytes, limits: UnpackLimits = LIMITS, *, is_plain: bool = False) -> Outcome:
    """Unpack these bytes, gzipped or (`is_plain`) a tar as it is; what came of it."""
    spool, tree = prepare(tmp_path, data)
    report, error = None, None
    async with Unpacker(spool, tree, limits, is_plain=is_plain) as unpacker:
        unpacker.feed(len(data))
        unpacker.finish(len(data))
        try:
            report = await unpacker.result()
        except HubError as failure:
            error = failure
    return Outcome(report, error, unpacker.peak_rss_bytes)


def contents(module: Path) -> dict[str, bytes]:
    """The files below a directory, by their paths."""
    return {str(path.relative_to(module)): path.read_bytes() for path in module.rglob("*") if path.is_file()}


def is_gone(pid: int) -> bool:
    """Whether the process has ended and was reaped."""
    return not os.path.exists(f"/proc/{pid}")


async def until(condition: Callable[[], bool]) -> None:
    """Wait until the child has told what makes the condition true."""
    async with asyncio.timeout(30):
        while not condition():  # what is told comes in through the event loop, so give it its turn
            await asyncio.sleep(0.001)

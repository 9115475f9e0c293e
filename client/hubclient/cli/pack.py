"""`hubctl pack`: from a module's directory to its archive, with progress.

Law: stdout gets the archive's path, or all that is known of it as JSON, once the archive is on the disk.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from hubclient.cli.display import can_redraw
from hubclient.cli.output import emit, emit_json, say
from hubclient.cli.wording import duration, short, size
from hubclient.model_errors import ExportInvalid
from hubclient.packing import Progress, source_directory
from hubclient.packing import pack as pack_module

_REDRAWS_PER_SECOND = 10


def pack(directory: str, out: str | None, *, force: bool, quiet: bool, as_json: bool) -> None:
    """Pack and tell; `out` is None for the directory's name with .tar.gz behind it, in the working directory."""
    started = time.monotonic()
    if out == "-":
        raise ExportInvalid("the archive goes to a file and not to stdout, which gets its path: name the file")
    target = out if out is not None else os.path.basename(source_directory(directory)) + ".tar.gz"
    with progress_of(directory, shown=not quiet) as progress:
        packed = pack_module(directory, target, force=force, progress=progress)
    if not quiet and not as_json:
        for name in packed.left_out:
            say(f"left out  {name}")
        what = f"{size(packed.content_bytes)} to {size(packed.size_bytes)} in {duration(time.monotonic() - started)}"
        say(f"packed  {directory}  {what}  {packed.digest}")
    if as_json:
        emit_json(packed._asdict() | {"left_out": list(packed.left_out)})
    else:
        emit(packed.path)


@contextmanager
def progress_of(directory: str, *, shown: bool) -> Iterator[Progress | None]:
    """A bar on a terminal that can move its cursor; elsewhere nothing, since nobody else waits for it."""
    if not shown or not can_redraw():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = TextColumn("packing {task.description}", markup=False), BarColumn(), DownloadColumn()
    with Bar(
        *columns,
        TimeRemainingColumn(),
        console=Console(stderr=True, highlight=False),
        transient=True,
        refresh_per_second=_REDRAWS_PER_SECOND,
        redirect_stdout=False,
    ) as bar:
        task = bar.add_task(short(directory), total=None)
        yield lambda done_bytes, total_bytes: bar.update(task, completed=done_bytes, total=total_bytes)

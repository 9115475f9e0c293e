"""`hubctl verify`: is every byte still what was published?

Law: the exit code is 0 only if all that was asked for is whole in the end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hubclient.cli.display import LINE_EVERY_FRACTION, LINE_EVERY_SECONDS, LINES_APART_SECONDS, can_redraw
from hubclient.cli.names import module_path
from hubclient.cli.output import EXIT_FAILED, complain, emit, emit_json, exit_code_of_all, say
from hubclient.cli.wording import count, duration, printable, size
from hubclient.contract.errors import HubError, NotFound, from_problem

if TYPE_CHECKING:
    from hubclient.daemon import Daemon

SHOWN_FILES = 5
_REDRAWS_PER_SECOND = 10

Progress = Callable[[dict[str, Any]], None]


def verify(daemon: Daemon, handles: Sequence[str] | None, *, repair: bool, quiet: bool, as_json: bool) -> int:
    """Compare the modules (None: all) with their digests, and print those that are damaged; the exit code."""
    errors: dict[str, HubError] = {}
    body: dict[str, Any] = {"repair": True} if repair else {}
    if handles is not None:
        keys, errors = _keys(daemon, handles)
        for handle, error in errors.items():
            complain(error, as_json=as_json, handle=handle)
        if not keys:
            return exit_code_of_all(errors.values())
        body["keys"] = keys
    checked: dict[str, dict[str, Any]] = {}
    with _progress(shown=not quiet and not as_json) as (progress, line):

        def heard(event: dict[str, Any]) -> None:
            if event.get("event") == "progress":
                progress(event)
            elif event.get("event") == "checked" and checked.get(event["digest"]) != event:
                checked[event["digest"]] = event
                if event["outcome"] != "intact" and not as_json:
                    line(line_of(event))

        end = daemon.listen("/v1/verify", body, heard)
    whole = all(event["outcome"] in ("intact", "repaired") for event in checked.values())
    if as_json:
        emit_json({"checked": [_plain(event) for event in checked.values()], "summary": _plain(end)})
    elif not quiet:
        say(summary(end))
    if not whole and not repair and not as_json:
        say("        the next use of a damaged module fetches it again, and `hubctl verify --repair` does so now")
    return EXIT_FAILED if not whole else exit_code_of_all(errors.values())


def line_of(event: dict[str, Any]) -> str:
    """A damaged module, its files, and what came of it."""
    files = [printable(file) for file in event["files"]]
    shown = ", ".join(files[:SHOWN_FILES]) + (f" and {len(files) - SHOWN_FILES} more" if files[SHOWN_FILES:] else "")
    parts = [event["outcome"], ", ".join(map(printable, event["handles"])), shown]
    if event["outcome"] == "unrepaired" and event.get("problem"):
        error = from_problem(event["problem"])
        parts.append(f"{printable(error.detail)} [{error.code}]")
    return "  ".join(part for part in parts if part)


def summary(end: dict[str, Any]) -> str:
    """The last line."""
    damaged, repaired = end["damaged"], end["repaired"]
    found = "all intact" if not damaged else f"{damaged:,} damaged" + (f", {repaired:,} repaired" if repaired else "")
    what = f"{count(end['modules'], 'module')}, {size(end['size_bytes'])}"
    return f"verified {what} in {duration(end['seconds'])}: {found}"


def _keys(daemon: Daemon, handles: Sequence[str]) -> tuple[list[str], dict[str, HubError]]:
    """The keys of the modules that the cache has, and the errors of the other handles."""
    keys: list[str] = []
    errors: dict[str, HubError] = {}
    for handle in dict.fromkeys(handles):
        try:
            keys.append(daemon.get(module_path(handle))["key"])
        except NotFound:
            errors[handle] = NotFound("the cache does not have it")
        except HubError as error:
            errors[handle] = error
    return keys, errors


def _plain(event: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name != "event"}


@contextmanager
def _progress(*, shown: bool) -> Iterator[tuple[Progress, Callable[[str], None]]]:
    """What takes progress, and what prints a line beside it: a bar on a terminal that can move its cursor."""
    if not shown or not can_redraw():
        yield (_Lines().show if shown else lambda _: None), emit
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    with Bar(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True, highlight=False),
        transient=True,
        refresh_per_second=_REDRAWS_PER_SECOND,
        redirect_stdout=False,
    ) as bar:
        task = bar.add_task("verifying", total=None)

        def show(event: dict[str, Any]) -> None:
            of = f"verifying {event['modules_done']:,} of {count(event['modules_total'], 'module')}"
            bar.update(task, description=of, completed=event["done_bytes"], total=event["total_bytes"])

        def line(text: str) -> None:
            bar.stop()  # so that the line does not run into the bar
            emit(text)
            bar.start()

        yield show, line


class _Lines:
    """Progress as seldom lines."""

    def __init__(self) -> None:
        self._said: tuple[float, float] = (time.monotonic(), 0.0)

    def show(self, event: dict[str, Any]) -> None:
        now, done = time.monotonic(), event["done_bytes"] / max(1, event["total_bytes"])
        last, last_done = self._said
        if now - last < (LINES_APART_SECONDS if done - last_done >= LINE_EVERY_FRACTION else LINE_EVERY_SECONDS):
            return
        self._said = (now, done)
        modules = f"{event['modules_done']:,} of {count(event['modules_total'], 'module')}"
        say(f"verifying, {done:.0%} of {size(event['total_bytes'])}, {modules}")

"""`hubctl prune`: make room by hand.

Law: nothing is removed before the plan was seen, or the user said that no look is needed.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from hubclient.cli.confirming import confirm
from hubclient.cli.listing import when
from hubclient.cli.output import EXIT_FAILED, emit, emit_json, say
from hubclient.cli.tables import on_terminal, table
from hubclient.cli.wording import count, printable, size

if TYPE_CHECKING:
    from hubclient.daemon import Daemon

HEADER = ("HANDLE", "SIZE", "LAST USED")


class Pruned(NamedTuple):
    """The API's events of one prune: a tree each, and the sum."""

    trees: list[dict[str, Any]]
    summary: dict[str, Any]

    @property
    def gone(self) -> list[dict[str, Any]]:
        """The trees that were removed, or would be. One that was pinned meanwhile was not, for no reason."""
        planned = self.summary["dry_run"]
        return [tree for tree in self.trees if tree["removed"] or (planned and tree["reason"] is None)]


class Bounds(NamedTuple):
    """What is to go: at least one of the two is given."""

    older_than_seconds: float | None
    to_size_bytes: int | None


def prune(daemon: Daemon, bounds: Bounds, *, dry_run: bool, ask: bool, as_json: bool) -> int:
    """Remove what the bounds say, with `ask` after a look at the plan; the exit code."""
    if dry_run or ask:
        plan = _prune(daemon, bounds, dry_run=True)
        if dry_run and as_json:
            emit_json(_document(plan))
            return 0
        if plan.gone:
            emit(_table(plan.gone))
        _tell_kept(plan)
        say(summary(plan))
        if dry_run or not plan.gone:
            return 0
        if not confirm("Remove them?"):
            say("hubctl: nothing was removed")
            return EXIT_FAILED
    done = _prune(daemon, bounds, dry_run=False)
    if as_json:
        emit_json(_document(done))
        return 0
    if done.gone and not ask:  # who has just seen the plan need not read it again
        emit("".join(f"removed  {_handles(tree)}  {size(tree['disk_bytes'])}\n" for tree in done.gone))
    _tell_kept(done)
    say(summary(done))
    return 0


def summary(pruned: Pruned) -> str:
    """The last line: modules, bytes freed, what is used now and what must stay."""
    end = pruned.summary
    # A daemon that died in the middle was asked again, and its sum lacks what the first one removed.
    number = max(end["modules"], sum(len(tree["handles"]) for tree in pruned.gone))
    freed = max(end["freed_bytes"], sum(tree["disk_bytes"] for tree in pruned.gone))
    would = "would be " if end["dry_run"] else ""
    parts = [f"{count(number, 'module')} {would}removed", f"{size(freed)} {would}freed"]
    stays = [
        f"{size(end[name])} {word}"
        for name, word in (
            ("pinned_bytes", "pinned"),
            ("leased_bytes", "leased"),
            ("in_flight_bytes", "in flight"),
        )
        if end[name]
    ]
    return f"{', '.join(parts)}; {size(end['used_bytes'])} used now" + (f", of it {', '.join(stays)}" if stays else "")


def _prune(daemon: Daemon, bounds: Bounds, *, dry_run: bool) -> Pruned:
    trees: dict[str, dict[str, Any]] = {}

    def heard(event: dict[str, Any]) -> None:
        if event.get("event") == "pruned":
            trees[event["digest"]] = event

    asked = {name: bound for name, bound in bounds._asdict().items() if bound is not None}
    end = daemon.listen("/v1/prune", asked | ({"dry_run": True} if dry_run else {}), heard)
    return Pruned(list(trees.values()), end)


def _document(pruned: Pruned) -> dict[str, Any]:
    plain = [{name: value for name, value in tree.items() if name != "event"} for tree in pruned.trees]
    return {"pruned": plain, "summary": {name: value for name, value in pruned.summary.items() if name != "event"}}


def _table(trees: list[dict[str, Any]]) -> str:
    """A row for each handle; the size stands beside the first of those that share a tree."""
    now = datetime.now(UTC) if on_terminal() else None
    rows = [
        (handle, "" if number else size(tree["disk_bytes"]), when(tree["last_used_at"], now))
        for tree in trees
        for number, handle in enumerate(_names(tree))
    ]
    return table(HEADER, rows, frozenset({1}), (2,))


def _tell_kept(pruned: Pruned) -> None:
    for tree in pruned.trees:
        if tree["reason"] is not None:
            say(f"kept  {_handles(tree)}  {str(tree['reason']).replace('-', ' ')}")


def _handles(tree: dict[str, Any]) -> str:
    return ", ".join(_names(tree))


def _names(tree: dict[str, Any]) -> list[str]:
    return [printable(handle) for handle in tree["handles"]] or ["(a broken-off download)"]

"""`hubctl fleet prune`: what lies in the fleet's store for long goes.

Law: nothing is removed before the plan was seen, or the user said that no look is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from hubclient.cli.confirming import confirm
from hubclient.cli.fleet import age, plain, store_of
from hubclient.cli.output import EXIT_FAILED, emit, emit_json, say
from hubclient.cli.tables import table
from hubclient.cli.wording import count, printable, size

if TYPE_CHECKING:
    from hubclient.daemon import Daemon

HEADER = ("OBJECT", "KIND", "SIZE", "AGE")
_KINDS = ("record", "archive", "claim")


class Pruned(NamedTuple):
    """The API's events of one prune: an object each, and the sum."""

    objects: list[dict[str, Any]]
    summary: dict[str, Any]
    is_plan: bool

    @property
    def gone(self) -> list[dict[str, Any]]:
        """What was removed, or would be."""
        return [one for one in self.objects if one["removed"] or self.is_plan]


def prune(daemon: Daemon, older_than_seconds: float, *, dry_run: bool, ask: bool, as_json: bool) -> int:
    """Remove what is older, with `ask` after a look at the plan; the exit code."""
    store_of(daemon)
    if dry_run or ask:
        plan = _prune(daemon, older_than_seconds, dry_run=True)
        if dry_run and as_json:
            emit_json(_document(plan))
            return 0
        if plan.gone:
            emit(table(HEADER, [_row(one) for one in plan.gone], frozenset({2}), (3,)))
        say(summary(plan))
        if dry_run or not plan.gone:
            return 0
        if not confirm("Remove them from the store, for all machines?"):
            say("hubctl: nothing was removed")
            return EXIT_FAILED
    done = _prune(daemon, older_than_seconds, dry_run=False)
    if as_json:
        emit_json(_document(done))
        return 0
    if done.gone and not ask:  # who has just seen the plan need not read it again
        emit("".join(f"removed  {_name(one)}  {one['kind']}  {size(one['size_bytes'])}\n" for one in done.gone))
    say(summary(done))
    return 0


def summary(pruned: Pruned) -> str:
    """`2 records, 1 archive removed, 186.0 MB freed`."""
    kinds = [one["kind"] for one in pruned.gone]
    parts = [count(kinds.count(kind), kind) for kind in _KINDS if kind in kinds]
    would = "would be " if pruned.is_plan else ""
    freed = size(sum(one["size_bytes"] for one in pruned.gone))
    return f"{', '.join(parts) or 'nothing'} {would}removed, {freed} {would}freed"


def _prune(daemon: Daemon, older_than_seconds: float, *, dry_run: bool) -> Pruned:
    objects: dict[tuple[str, str], dict[str, Any]] = {}

    def heard(event: dict[str, Any]) -> None:
        if "kind" in event:  # a daemon that died in the middle is asked again, and knows no more of what is gone
            objects[event["kind"], event["name"]] = plain(event)

    end = daemon.listen("/v1/fleet/prune", {"older_than_seconds": older_than_seconds, "dry_run": dry_run}, heard)
    return Pruned(list(objects.values()), plain(end), dry_run)


def _document(pruned: Pruned) -> dict[str, Any]:
    return {"pruned": pruned.objects, "summary": pruned.summary | {"dry_run": pruned.is_plan}}


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    return _name(one), one["kind"], size(one["size_bytes"]), age(one["age_seconds"])


def _name(one: dict[str, Any]) -> str:
    """A record by its handle, the rest as the store names it."""
    return printable(one.get("handle") or one["name"])

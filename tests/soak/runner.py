"""A soak: one daemon that is killed again and again, under everything that users, administrators and a cleaner do.

Law: it ends by itself soon after its time, and every violation of a promise is in its journal. The seed decides what
is done; when, the machine does.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from signal import SIGKILL
from typing import Any

from hubclient.contract import handles
from hubd.config import CacheSettings
from hubd.store.layout import StoreLayout
from tests.soak import actors, invariants, plan
from tests.soak.actors import Stage
from tests.soak.journal import Journal
from tests.soak.world import World
from tests.support.daemon import Daemon
from tests.support.origin import Origin

# Largest module 6 MB, with its archive 12 beside what is leased and pinned: this much of all evicts all the time.
QUOTA_SHARE = 0.6
CLIENTS = 4
REVALIDATE_SECONDS = 3.0

_PINNED = "/small/0/1"
_SETTLE_SECONDS = 40.0  # past the daemon's own leases (10 s) and its next round of tidying (15 s)
_JOIN_SECONDS = 90.0
_ASKED_TOO_OFTEN_BY = 3
_CONFIG = """
[api]
idle_exit = "60s"
[network]
revalidate_after = "{revalidate_seconds}s"
stall_timeout = "5s"
negative_ttl = "1s"
"""
_COMPLAINTS = re.compile(r"Traceback|outcome=internal |never retrieved|never awaited")


def run(directory: Path, *, seed: int, seconds: float, clients: int = CLIENTS) -> Journal:
    """Runs it in an empty directory; whatever it started has ended when it returns."""
    journal = Journal(seed, directory / "events.ndjson")
    with Origin() as origin, ExitStack() as started:
        world = World(origin, seed)
        world.write_truth(directory / "truth.json")
        quota = int(QUOTA_SHARE * world.size_bytes) if "max_size" in CacheSettings.model_fields else None
        daemon = Daemon(directory, config=_config(quota))
        started.push(daemon)
        try:
            soak = _Soak(daemon, world, journal, quota, directory / "truth.json")
            started.callback(soak.end_actors)
            soak.run(seconds, clients)
            soak.end_actors()
            soak.look_last()
        except (AssertionError, subprocess.TimeoutExpired) as error:
            journal.violation(f"the daemon does not start or end: {error}")
        _judge_requests(origin, world, journal, time.time() - journal.began)
    _judge_processes(journal)
    return journal


def report(journal: Journal) -> str:
    """What happened, in lines; violations last."""
    lines = [f"soak: seed {journal.seed}, {time.time() - journal.began:.0f} s"]
    lines += [f"  {what:<44} {number:>14,}" for what, number in sorted(journal.counts.items())]
    lines += [f"  answered {code:<35} {number:>14,}" for code, number in sorted(journal.refusals.items())]
    lines += [f"  asked for {path:<34} {asked:>14,}  (reasons: {reasons})" for path, asked, reasons in journal.requests]
    told: tuple[str, ...] = ()
    for violation in journal.violations:
        lines += ["", f"VIOLATION (seed {journal.seed}): {violation.text}"]
        lines += [f"    {event}" for event in violation.events if violation.events != told]
        told = violation.events
    lines += ["", f"{len(journal.violations)} violations" if journal.violations else "every promise was kept"]
    return "\n".join(lines)


class _Soak:
    """The lives of one daemon."""

    def __init__(self, daemon: Daemon, world: World, journal: Journal, quota: int | None, truth: Path) -> None:
        self._daemon = daemon
        self._journal = journal
        self._threads: list[threading.Thread] = []
        self._read_of_log = 0
        self._started_at = 0.0
        self._start()
        self._stage = Stage(
            daemon=daemon,
            layout=StoreLayout(str(daemon.cache)),
            world=world,
            journal=journal,
            routes=_routes(daemon),
            quota_bytes=quota,
            pinned=frozenset[str](),
            seed=journal.seed,
            truth=truth,
        )
        self._pin()

    def run(self, seconds: float, clients: int) -> None:
        stage = self._stage
        until = time.time() + seconds
        self._threads = actors.start(stage, clients)
        for cycle in plan.cycles(stage.seed):
            if time.time() >= until:
                return
            self._journal.event("soak", "cycle", **cycle._asdict())
            if cycle.cleaner:
                stage.cleaning.set()
            stage.go.set()
            stage.over.wait(cycle.seconds)
            if cycle.looks_first:
                stage.go.clear()
                self._settle("before the daemon ended")
                stage.go.set()
                stage.over.wait(cycle.seconds / 2)
            self._end_daemon(kill=cycle.ending == "kill")
            stage.go.clear()
            stage.cleaning.clear()
            if cycle.killed_while_starting_after is not None:
                self._daemon.start(wait=False)
                stage.over.wait(cycle.killed_while_starting_after)
                self._end_daemon(kill=True)
            self._start()
            self._settle("after a restart")

    def end_actors(self) -> None:
        """Returns when nobody works on the cache any more."""
        self._stage.over.set()
        for thread in self._threads:
            thread.join(_JOIN_SECONDS)
            if thread.is_alive():
                self._journal.violation(f"{thread.name} does not end")

    def look_last(self) -> None:
        """One more restart; with nobody there, nothing is excused any more. Afterwards the daemon has ended."""
        self._end_daemon(kill=False)
        self._start()
        self._settle("at the end", last=True)
        self._end_daemon(kill=False)

    def _pin(self) -> None:
        """Keeps one small module in the cache for good, if the daemon can."""
        stage = self._stage
        handle = next(handle for handle, module in stage.world.handles.items() if module.path == _PINNED)
        key = handles.key(handles.canonical(handle))
        stage.ask("soak", "POST", "/v1/resolve", {"handle": handle})
        if stage.offers("PUT", "/v1/modules/{key}/pin"):
            stage.ask("soak", "PUT", f"/v1/modules/{key}/pin")
            stage.pinned = frozenset({key})

    def _start(self) -> None:
        self._started_at = time.time()
        self._journal.event("soak", "the daemon starts")
        self._journal.count("starts of the daemon")
        self._daemon.start()

    def _end_daemon(self, *, kill: bool) -> None:
        self._journal.event("soak", "the daemon is killed" if kill else "the daemon is stopped")
        self._journal.count("kills of the daemon" if kill else "stops of the daemon")
        if kill:
            self._daemon.kill()
        elif (code := self._daemon.stop()) != 0:
            self._journal.violation(f"the daemon ended with {code} on SIGTERM")
        self._read_log()

    def _settle(self, when: str, *, last: bool = False) -> None:
        """Waits until nothing is under way, and looks at what there is then."""
        deadline = time.time() + _SETTLE_SECONDS
        while (unsettled := list(self._unsettled(last))) and time.time() < deadline:
            time.sleep(0.1)
        for text in unsettled:
            self._journal.violation(f"{when}, {text}")
        self._journal.event("soak", f"looked {when}", found=len(unsettled))
        self._journal.count("looks at the whole cache")

    def _unsettled(self, last: bool) -> Iterator[str]:
        """What is not as it must be in the end, and may still become so."""
        stage, journal, layout = self._stage, self._journal, self._stage.layout
        before = invariants.used(layout)
        answer = stage.ask("soak", "GET", "/v1/status")
        if answer is None or answer[0] != 200:
            yield "the daemon does not tell its status"
            return
        cache = answer[1]["cache"]
        if answer[1]["fetches"]:
            yield f"{answer[1]['fetches']} fetches were still under way"
        if not self._recovered(cache):
            yield "recovery was not over"
        for name in invariants.leftovers(layout):
            yield f"{name} was left over"
        for digest in invariants.orphaned_trees(layout):
            # One that was held when recovery came by stays until the next start.
            if last or not journal.held(digest, since=self._started_at):
                yield f"the tree {digest[:12]} had no record"
        records = invariants.recorded(layout)
        missing = invariants.missing_trees(layout)
        for key in missing:
            if key not in stage.pinned or not journal.touched(records[key], since=0.0):
                yield f"the record {key[:12]} had no tree"
        for key in stage.pinned - records.keys():
            yield f"the pinned module {key[:12]} was gone"
        # Of a pinned module that the cleaner deleted the record stays, and a view that leads nowhere is a miss.
        for key in set(invariants.wrong_views(layout)).difference(missing):
            yield f"the view handles/{key[:12]} was wrong"
        # Also while start-up withholds what it has not checked yet.
        yield from invariants.wrong_trees(layout, stage.world.truth, journal.touched_tree)
        yield from self._accounting(cache, before)

    def _accounting(self, cache: dict[str, Any], disk: invariants.Usage) -> Iterator[str]:
        accounted = cache.get("used_bytes")
        most = disk.entries_bytes + disk.directories_bytes
        if accounted is not None and not disk.entries_bytes <= accounted <= most:
            yield f"{accounted:,} bytes were accounted, and du says {disk.entries_bytes:,}"

    def _recovered(self, cache: dict[str, Any]) -> bool:
        return bool(cache.get("scanned", True)) and "recovery: " in self._log()

    def _log(self) -> str:
        """What this life of the daemon has logged."""
        with self._daemon.log.open("rb") as log:
            log.seek(self._read_of_log)
            return log.read().decode(errors="replace")

    def _read_log(self) -> None:
        """Looks through the log of a life that is over."""
        lines = self._log().splitlines()
        for number, line in enumerate(lines):
            if _COMPLAINTS.search(line):
                around = "\n".join(lines[max(0, number - 2) : number + 30])
                self._journal.violation(f"the daemon's log complains:\n{around}")
                break
        self._read_of_log = self._daemon.log.stat().st_size


def _config(quota_bytes: int | None) -> str:
    config = _CONFIG.format(revalidate_seconds=REVALIDATE_SECONDS)
    return config if quota_bytes is None else f'[cache]\nmax_size = "{quota_bytes}B"\nmin_free = "0B"\n{config}'


def _routes(daemon: Daemon) -> frozenset[tuple[str, str]]:
    _, document = daemon.request("GET", "/v1/openapi.json")
    return frozenset((method.upper(), path) for path, methods in document["paths"].items() for method in methods)


def _judge_requests(origin: Origin, world: World, journal: Journal, seconds: float) -> None:
    """The origin is asked once for each module, and again only for a reason that is on record."""
    ends = journal.counts["kills of the daemon"] + journal.counts["stops of the daemon"]
    for handle, module in world.handles.items():
        key = handles.key(handles.canonical(handle))
        digests = world.digests(handle)
        touches = sum(touch.key == key or touch.digest in digests for touch in journal.touches)
        revalidations = int(seconds / REVALIDATE_SECONDS) + 1 if module.mutable else 0
        reasons = 1 + ends + touches + revalidations + journal.reasons[module.path]
        asked = len(origin.asked(module.path))
        journal.requests.append((module.path, asked, reasons))
        if asked > reasons + _ASKED_TOO_OFTEN_BY:
            journal.violation(f"the origin was asked {asked} times for {module.path}, with {reasons} reasons to")


def _judge_processes(journal: Journal) -> None:
    """Nobody is left: what outlived its parent has become this process's child (`adopt_orphans`)."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    for pid in map(int, children):
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        os.kill(pid, SIGKILL)
        os.waitpid(pid, 0)
        if command:  # else it had ended already, and only nobody had asked for its status
            journal.violation(f"a process was left behind: {command}")

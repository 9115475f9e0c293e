"""Who works on the cache at the same time: client processes, a prefetcher, an administrator, the cleaner, the origin
that changes, and one who watches.

Law: each actor is a thread that ends soon after it is told to, does nothing new while all are told to pause, and
leaves no process behind.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGINT, SIGKILL
from typing import Any

from hubclient.contract import handles
from hubd.store.layout import StoreLayout
from tests.soak import invariants, plan
from tests.soak.cleaner import Cleaner
from tests.soak.journal import Hold, Journal
from tests.soak.world import World
from tests.support.daemon import Daemon, UnixConnection

CLIENT = Path(__file__).with_name("client.py")
CLIENT_TIMEOUT_SECONDS = 20.0
_CLIENT_END_SECONDS = 60.0
_WATCH_SECONDS = 0.2
_LOOKS = 4


@dataclass
class Stage:
    """What all actors share. `go` is cleared to make them pause, `cleaning` lets the cleaner work."""

    daemon: Daemon
    layout: StoreLayout
    world: World
    journal: Journal
    routes: frozenset[tuple[str, str]]
    quota_bytes: int | None
    pinned: frozenset[str]
    seed: int
    truth: Path
    go: threading.Event = field(default_factory=threading.Event)
    cleaning: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)

    def path(self, handle: str) -> str:
        return self.world.handles[handle].path

    def offers(self, method: str, path: str) -> bool:
        return (method, path) in self.routes

    def pause(self, seconds: float, *gates: threading.Event) -> bool:
        """Waits for so long, and then until all may go on; False when it is over."""
        self.over.wait(seconds)
        for gate in (self.go, *gates):
            while not self.over.is_set() and not gate.wait(0.1):
                pass
        return not self.over.is_set()

    def ask(self, actor: str, method: str, path: str, body: Any = None) -> tuple[int, Any] | None:
        """One request; None when the daemon is not there, as while it is killed and started again."""
        lines = self.stream(actor, method, path, body)
        return None if lines is None else (lines[0], lines[1][0] if lines[1] else None)

    def stream(self, actor: str, method: str, path: str, body: Any = None) -> tuple[int, list[Any]] | None:
        """Status and lines of JSON; a problem is on record."""
        connection = UnixConnection(str(self.daemon.socket))
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None)
            answer = connection.getresponse()
            lines = [json.loads(line) for line in answer.read().splitlines()]
        except (OSError, http.client.HTTPException, ValueError):
            self.journal.count("requests that the end of the daemon cut")
            return None
        finally:
            connection.close()
        if answer.status >= 400 and lines:
            self.journal.refused(actor, str(lines[0].get("code")), str(lines[0].get("detail")))
        return answer.status, lines


def start(stage: Stage, clients: int) -> list[threading.Thread]:
    """All of them. `stage.over` ends them."""
    actors: list[tuple[str, Callable[[], None]]] = [
        *((f"client {slot}", lambda slot=slot: _clients(stage, slot)) for slot in range(clients)),
        ("prefetcher", lambda: _prefetch(stage)),
        ("administrator", lambda: _administer(stage)),
        ("cleaner", lambda: _clean(stage)),
        ("origin", lambda: _change(stage)),
        ("watcher", lambda: _watch(stage)),
    ]
    threads = [threading.Thread(target=_guarded(stage, name, act), name=name) for name, act in actors]
    for thread in threads:
        thread.start()
    return threads


def _guarded(stage: Stage, name: str, act: Callable[[], None]) -> Callable[[], None]:
    def run() -> None:
        try:
            act()
        except Exception as error:  # a thread that dies in silence would make the rest pass
            stage.journal.violation(f"the soak itself failed: {name}: {type(error).__name__}: {error}")

    return run


def _clients(stage: Stage, slot: int) -> None:
    for planned in plan.clients(stage.seed, slot, list(stage.world.handles)):
        if not stage.pause(0.02):
            return
        _Client(stage, f"client {slot}", planned).run()


class _Client:
    """One process from start to end, and the judgement of what it tells."""

    def __init__(self, stage: Stage, name: str, planned: plan.ClientPlan) -> None:
        self._stage = stage
        self._journal = stage.journal
        self._name = name
        self._planned = planned
        self._asking: str | None = None
        self._holds: list[Hold] = []
        # Who asks may hold a copy that is too old meanwhile, so as to have it if nobody answers.
        self._while_asking: list[Hold] = []

    def run(self) -> None:
        environ = os.environ | {
            "HUBD_SOCKET": str(self._stage.daemon.socket),
            "HUBD_AUTOSTART": "0",
            "HUBD_TIMEOUT": str(CLIENT_TIMEOUT_SECONDS),
        }
        command = [sys.executable, "-P", str(CLIENT), str(self._stage.truth)]
        for step in self._planned.steps:
            command += [step.handle, step.mode, str(step.seconds)]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, env=environ)
        self._journal.event(self._name, "started", pid=process.pid, ending=self._planned.ending)
        timers = [threading.Timer(_CLIENT_END_SECONDS, process.kill)]
        if self._planned.ending != "exit":
            number = SIGKILL if self._planned.ending == "kill" else SIGINT
            timers.append(threading.Timer(self._planned.after_seconds, process.send_signal, (number,)))
        for timer in timers:
            timer.daemon = True
            timer.start()
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            for line in process.stdout:
                with suppress(ValueError):  # killed in mid-sentence
                    self._judge(json.loads(line))
            errors = process.stderr.read()
            code = process.wait()
        finally:
            for timer in timers:
                timer.cancel()
            process.kill()
            process.wait()
            for hold in (*self._holds, *self._while_asking):
                hold.ended = time.time()
        self._end(code, errors)

    def _end(self, code: int, errors: str) -> None:
        self._journal.event(self._name, "ended", code=code)
        self._journal.count(f"client processes, {self._planned.ending}")
        if self._asking is not None:
            self._journal.reason(self._asking)  # its fetch may have ended with it
        expected = {"exit": {0}, "kill": {0, -SIGKILL}, "interrupt": {0, -SIGINT}}[self._planned.ending]
        if code not in expected:
            self._journal.violation(f"a client ended with {code}: {errors.strip()[-1500:]}")

    def _judge(self, told: dict[str, Any]) -> None:
        what, handle, at = told.pop("what"), told.pop("handle"), told.pop("at")
        path, journal = self._stage.path(handle), self._journal
        if what != "read":
            journal.event(self._name, what, path=path, **told)
        self._asking = path if what == "asking" else None
        digest = told.get("digest", "")
        while self._while_asking:
            self._while_asking.pop().ended = at
        match what:
            case "asking":
                self._while_asking = [journal.hold(old, at) for old in self._stage.world.digests(handle)]
            case "leased":
                journal.count("leases")
                self._holds.append(journal.hold(digest, told["begun"]))
                if digest not in self._stage.world.digests(handle):
                    journal.violation(f"{path} was answered with {digest[:12]}, which was never served for it")
            case "released":
                last = next(hold for hold in reversed(self._holds) if hold.digest == digest)
                self._holds.remove(last)
                last.ended = at
            case "read":
                journal.count("modules read")
                journal.count("bytes compared", told["size_bytes"])
            case "damaged":
                journal.count("damage seen by clients")
                if not journal.touched(digest, told["begun"], at):
                    journal.violation(
                        f"under a lease, {told['file']} of {path} ({digest[:12]}) was not right ({told['problem']}), "
                        f"and nobody had touched it since it was asked for"
                    )
            case "refused":
                journal.refused(self._name, told["code"], told["text"], path)


def _prefetch(stage: Stage) -> None:
    for planned in plan.prefetches(stage.seed, list(stage.world.handles)):
        if not stage.pause(planned.pause_seconds):
            return
        answer = stage.ask("prefetcher", "POST", "/v1/prefetch", {"handles": planned.handles})
        stage.journal.count("prefetches")
        for accepted in answer[1]["fetches"] if answer is not None and answer[0] == 202 else ():
            if accepted["id"] is not None:  # under way, and nobody will be told if it fails
                stage.journal.reason(stage.path(accepted["handle"]))


def _change(stage: Stage) -> None:
    mutable = {module.path: module for module in stage.world.modules if module.mutable}
    for path, pause_seconds in plan.changes(stage.seed, sorted(mutable)):
        if not stage.pause(pause_seconds):
            return
        stage.world.change(mutable[path])
        stage.journal.reason(path)
        stage.journal.event("origin", "changed", path=path)


def _clean(stage: Stage) -> None:
    cleaner = Cleaner(stage.layout, stage.journal, stage.pinned)
    for planned in plan.cleaner(stage.seed):
        if not stage.pause(planned.pause_seconds, stage.cleaning):
            return
        cleaner.act(planned)


def _administer(stage: Stage) -> None:
    for planned in plan.administrator(stage.seed):
        if not stage.pause(planned.pause_seconds):
            return
        match planned.act:
            case "remove":
                _remove(stage, planned.share)
            case "verify" | "verify and repair":
                _verify(stage, planned)
            case _:
                _prune(stage, planned)


def _remove(stage: Stage, share: float) -> None:
    unpinned = sorted({handles.key(handles.canonical(handle)) for handle in stage.world.handles} - stage.pinned)
    if not stage.offers("DELETE", "/v1/modules/{key}"):
        return
    answer = stage.ask("administrator", "DELETE", f"/v1/modules/{unpinned[int(share * len(unpinned))]}")
    stage.journal.count("removals")
    if answer is not None and answer[0] == 200:
        stage.journal.reason(stage.path(answer[1]["handle"]))


def _prune(stage: Stage, planned: plan.AdminPlan) -> None:
    if not stage.offers("POST", "/v1/prune"):
        return
    body: dict[str, Any] = {"dry_run": planned.act == "prune dry"}
    if planned.act == "prune by age":
        body["older_than_seconds"] = 5 * planned.share
    else:
        body["to_size_bytes"] = int(stage.world.size_bytes * planned.share)
    stage.journal.event("administrator", "prune", **body)
    stage.journal.count("prunes")
    answer = stage.stream("administrator", "POST", "/v1/prune", body)
    for line in _done(stage, "prune", answer):
        if line["event"] == "pruned" and line["removed"]:
            stage.journal.count("pruned trees")
            if body["dry_run"]:
                stage.journal.violation(f"a dry run of prune removed {line['digest'][:12]}")


def _verify(stage: Stage, planned: plan.AdminPlan) -> None:
    if not stage.offers("POST", "/v1/verify"):
        return
    keys = sorted(invariants.recorded(stage.layout))
    body = {
        "keys": keys[: int(planned.share * len(keys)) or None] if planned.share < 0.5 else None,
        "repair": planned.act == "verify and repair",
    }
    begun = time.time()
    stage.journal.event("administrator", planned.act)
    stage.journal.count("verifications")
    for line in _done(stage, "verify", stage.stream("administrator", "POST", "/v1/verify", body)):
        if line["event"] != "checked":
            continue
        stage.journal.count(f"verified trees, {line['outcome']}")
        for path in stage.world.paths(line["digest"]) if line["outcome"] != "intact" else ():
            stage.journal.reason(path)
        if line["outcome"] != "intact" and not stage.journal.touched(line["digest"], since=0.0):
            stage.journal.violation(
                f"verify found {line['digest'][:12]} {line['outcome']} ({line['files'][:3]}), which nobody had touched "
                f"in the {begun - stage.journal.began:.0f} s before"
            )


def _done(stage: Stage, what: str, answer: tuple[int, list[Any]] | None) -> Iterator[Any]:
    """The lines of an NDJSON answer, which must end with the right one."""
    if answer is None or answer[0] >= 400:
        return
    yield from answer[1]
    last = answer[1][-1] if answer[1] else {}
    if last.get("event") == "failed":
        stage.journal.refused("administrator", last["problem"]["code"], last["problem"]["detail"])
    elif last.get("event") != "done":
        stage.journal.count(f"answers of {what} that the end of the daemon cut")


def _used_bytes(stage: Stage) -> int:
    """The least of a few looks: one that counts a tree before it goes, and then what came in its place, is wrong."""
    looks = [invariants.used(stage.layout).entries_bytes]
    while stage.quota_bytes is not None and looks[-1] > stage.quota_bytes and len(looks) < _LOOKS:
        looks.append(invariants.used(stage.layout).entries_bytes)
    return min(looks)


def _watch(stage: Stage) -> None:
    """Samples: the bytes in use, and which trees went, because what is gone may be asked for again."""
    seen: dict[str, int] = {}
    evicted = 0
    while not stage.over.wait(_WATCH_SECONDS):
        now = invariants.trees(stage.layout)
        for digest in (digest for digest, inode in seen.items() if now.get(digest) != inode):
            for path in stage.world.paths(digest):
                stage.journal.reason(path)
        seen = now
        used_bytes = _used_bytes(stage)
        stage.journal.counts["largest use seen, bytes"] = max(
            stage.journal.counts["largest use seen, bytes"], used_bytes
        )
        if (answer := stage.ask("watcher", "GET", "/v1/status")) is None or answer[0] != 200:
            continue
        status = answer[1]
        if (counted := status["counters"].get("evicted", 0)) != evicted:
            stage.journal.count("evictions seen", max(0, counted - evicted))
            evicted = counted
        if stage.quota_bytes is None:
            continue
        if (accounted := status["cache"].get("used_bytes") or 0) > stage.quota_bytes:
            stage.journal.violation(f"{accounted:,} bytes are accounted, and max_size is {stage.quota_bytes:,}")
        if used_bytes > stage.quota_bytes:
            stage.journal.violation(f"du says {used_bytes:,} bytes, and max_size is {stage.quota_bytes:,}")

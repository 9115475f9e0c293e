"""`hubctl fleet` and `hubctl sync --to-store` against a daemon that answers as it is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hubclient.cli.app import app
from hubclient.contract import lock_file
from hubclient.contract.handles import key
from hubclient.contract.lock_file import Locked
from tests.support.api_answers import fetch, fleet, status
from tests.support.hubctl import SECONDS, Terminal, environ_of
from tests.support.scripted_daemon import Asked, Script, ScriptedDaemon, answer, by_path, problem, resolved, stream

A, B = "https://h.example/a/1", "https://h.example/b/1"
STORE = "s3://bucket/prefix"


def run(daemon: ScriptedDaemon, *arguments: str) -> tuple[int, str, str]:
    environ = {"HUBD_SOCKET": daemon.path, "HUBD_TIMEOUT": "5", "COLUMNS": "100", "TERM": "dumb"}
    result = CliRunner(env=environ).invoke(app, arguments, prog_name="hubctl")
    return result.exit_code, result.stdout, result.stderr


def daemon_of(tmp_path: Path, scripts: Mapping[str, Script]) -> ScriptedDaemon:
    known = answer(status(config={"file": "/etc/hubd/config.toml"}))
    return ScriptedDaemon(tmp_path / "hubd.sock", by_path({"/v1/status": known, **scripts}))


def with_store(tmp_path: Path, path: str, script: Script, **changes: Any) -> ScriptedDaemon:
    return daemon_of(tmp_path, {"/v1/fleet": answer(fleet(**changes)), path: script})


def bodies(daemon: ScriptedDaemon, path: str) -> list[dict[str, Any]]:
    return [one.body for one in daemon.asked if one.path == path]


# status


def test_status_says_that_the_store_is_well_and_what_came_of_it(tmp_path: Path) -> None:
    upload = {"handle": A, "key": key(A), "sent_bytes": 45, "total_bytes": 100}
    with with_store(tmp_path, "-", answer({}), waited=2, claimed=1, uploads=[upload]) as daemon:
        code, out, said = run(daemon, "fleet", "status")
        document = json.loads(run(daemon, "fleet", "status", "--json")[1])
    assert (code, said) == (0, "")
    assert out.splitlines() == [
        f"the fleet's store {STORE} is well",
        f"store       {STORE}, read-write, answers",
        "from it     12 found, 3.0 GB received; another machine was waited for 2 times",
        "to it       3 uploaded, 500.0 MB sent",
        "origins     1 fetch for the whole fleet, 0 for this machine alone",
        f"uploading   {A}, 45% of 100 B",
    ]
    assert (document["state"], document["uploads"]) == ("ok", [upload])


@pytest.mark.parametrize(
    ("state", "what", "remedy"),
    [
        ("away", "does not answer: no route (asked again in 30 s)", "is the store up"),
        ("denied", "denies something to this machine: no route (asked again in 30 s)", "[[credential]]"),
        ("missing", "is not there: no route (asked again in 30 s)", "make the bucket"),
    ],
)
def test_status_says_what_is_wrong_with_the_store_and_what_mends_it(
    tmp_path: Path, state: str, what: str, remedy: str
) -> None:
    with with_store(tmp_path, "-", answer({}), state=state, trouble="no route", retry_in_seconds=30.2) as daemon:
        code, out, said = run(daemon, "fleet", "status")
    first, second, *_ = out.splitlines()
    assert (code, said, first) == (0, "", f"! the fleet's store {STORE} {what}")
    assert second.startswith("  -> ")
    assert remedy in second


def test_status_without_a_store_says_which_setting_names_one(tmp_path: Path) -> None:
    with with_store(tmp_path, "-", answer({}), state="off", store=None) as daemon:
        code, out, said = run(daemon, "fleet", "status")
        as_json = run(daemon, "fleet", "status", "--json")
    assert (code, out) == (0, "no store is configured: each module comes from its origin\n")
    assert "[fleet] store names one, in /etc/hubd/config.toml" in said
    assert (as_json[0], json.loads(as_json[1])["state"], as_json[2]) == (0, "off", "")


def test_a_daemon_that_asks_no_network_asks_no_store(tmp_path: Path) -> None:
    with with_store(tmp_path, "-", answer({}), state="off") as daemon:
        code, out, _ = run(daemon, "fleet", "status")
        refused = run(daemon, "fleet", "ls")
    assert (code, "network.offline" in out) == (0, True)
    assert (refused[0], "network.offline" in refused[2]) == (1, True)


def test_status_starts_no_daemon_and_says_that_there_is_none(tmp_path: Path) -> None:
    with daemon_of(tmp_path, {}) as daemon:
        pass
    code, out, said = run(daemon, "fleet", "status")
    assert (code, out) == (3, "")
    assert "[daemon-unreachable]" in said


COMMANDS = [
    ["fleet", "status"],
    ["fleet", "ls"],
    ["fleet", "push", A],
    ["fleet", "prune", "--older-than", "90d", "--yes"],
    ["fleet", "prune", "--older-than", "90d", "--dry-run", "--json"],
    ["sync", "--to-store", "LOCK"],
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_daemon_that_knows_no_fleets_is_told_by_its_version(tmp_path: Path, lock: str, arguments: list[str]) -> None:
    with daemon_of(tmp_path, {}) as daemon:
        code, out, said = run(daemon, *[lock if one == "LOCK" else one for one in arguments])
    assert (code, out) == (1, "")
    assert "the daemon is hubd 0.1.0, which knows nothing of fleets: upgrade it" in said


@pytest.mark.parametrize("arguments", COMMANDS[1:], ids=" ".join)
def test_what_needs_a_store_says_which_setting_names_one(tmp_path: Path, lock: str, arguments: list[str]) -> None:
    with with_store(tmp_path, "-", answer({}), state="off", store=None) as daemon:
        code, out, said = run(daemon, *[lock if one == "LOCK" else one for one in arguments])
    assert (code, out) == (1, "")
    assert "no store is configured: [fleet] store names one, in /etc/hubd/config.toml" in said
    assert [one.method for one in daemon.asked] == ["GET", "GET"]


@pytest.mark.parametrize(
    ("path", "arguments"), list(zip(("modules", "push", "prune"), COMMANDS[1:4], strict=True)), ids=str
)
def test_who_is_no_administrator_is_told_who_is(tmp_path: Path, path: str, arguments: list[str]) -> None:
    refusal = problem("access-denied", 403, "this is for administrators")
    with with_store(tmp_path, f"/v1/fleet/{path}", refusal) as daemon:
        code, out, said = run(daemon, *arguments)
    assert (code, out) == (1, "")
    assert "[access-denied]" in said
    assert "run hubctl as root" in said


# ls


def module(handle: str, **changes: Any) -> dict[str, Any]:
    plain = {"digest": "d" * 64, "archive_bytes": 5_000_000, "age_seconds": 7200.4, "has_archive": True}
    return {"event": "module", "handle": handle, "key": key(handle), **plain, **changes}


def listing(*modules: Mapping[str, Any], **changes: Any) -> Script:
    end = {
        "event": "done",
        "done": True,
        "modules": len(modules),
        "archive_bytes": 10_000_000,
        "foreign": 0,
        "claims": 0,
    } | changes
    return stream([{"event": "waiting"}, *modules, end])


def test_ls_lists_what_the_store_has(tmp_path: Path) -> None:
    modules = listing(module(B, has_archive=False), module(A), foreign=1, claims=2)
    with with_store(tmp_path, "/v1/fleet/modules", modules) as daemon:
        code, out, said = run(daemon, "fleet", "ls")
        quiet = run(daemon, "fleet", "ls", "-q")
        document = json.loads(run(daemon, "fleet", "ls", "--json")[1])
    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        ["HANDLE", "ARCHIVE", "AS", "OF", "DIGEST"],
        [A, "5.0", "MB", "7200", "s", "ago", "d" * 12],
        [B, "missing", "7200", "s", "ago", "d" * 12],
    ]
    assert said == (
        f"2 modules, 10.0 MB, 1 of them without an archive, 2 claims, 1 object that hubd did not write in {STORE}\n"
    )
    assert quiet == (0, f"{A}\n{B}\n", "")
    assert [one["handle"] for one in document["modules"]] == [A, B]
    assert document["summary"] == {"modules": 2, "archive_bytes": 10_000_000, "foreign": 1, "claims": 2}
    assert {one.method for one in daemon.asked} == {"GET"}


def test_ls_of_an_empty_store_says_so(tmp_path: Path) -> None:
    with with_store(tmp_path, "/v1/fleet/modules", listing(archive_bytes=0)) as daemon:
        assert run(daemon, "fleet", "ls") == (0, "", f"0 modules, 0 B in {STORE}\n")


def test_a_listing_that_fails_in_the_middle_is_no_listing(tmp_path: Path) -> None:
    away = {"code": "upstream-unavailable", "detail": "the store went away"}
    broken = stream([module(A), {"event": "failed", "problem": away}])
    with with_store(tmp_path, "/v1/fleet/modules", broken) as daemon:
        code, out, said = run(daemon, "fleet", "ls")
    assert (code, out) == (1, "")
    assert "the store went away [upstream-unavailable]" in said


# push


def pushed(handle: str, outcome: str, **changes: Any) -> dict[str, Any]:
    plain = {"digest": "d" * 64, "archive_bytes": 5_000_000, "code": None, "detail": None}
    return {"event": "pushed", "handle": handle, "key": key(handle), "outcome": outcome, **plain, **changes}


def failed(handle: str, code: str) -> dict[str, Any]:
    return pushed(handle, "failed", digest=None, archive_bytes=None, code=code, detail="the reason")


def pushing(*outcomes: Mapping[str, Any], cut: bool = False) -> Script:
    words = [one["outcome"] for one in outcomes]
    end = {"event": "done", "done": True, **{word: words.count(word) for word in ("uploaded", "there", "failed")}}
    return stream([*outcomes, *([] if cut else [end])], cut=cut)


def test_push_says_what_came_of_each_handle_in_their_order(tmp_path: Path) -> None:
    with with_store(tmp_path, "/v1/fleet/push", pushing(pushed(B, "there"), pushed(A, "uploaded"))) as daemon:
        code, out, said = run(daemon, "fleet", "push", A, B, "HTTPS://h.example/a/1")
        document = json.loads(run(daemon, "fleet", "push", "--json", A, B)[1])
    assert (code, out) == (0, f"uploaded  {A}\nthere     {B}\n")
    assert said.splitlines() == [
        f"there  {B}",
        f"uploaded  {A}  5.0 MB",
        f"2 of 2 modules in the store, 1 of them new: 5.0 MB sent, {STORE}",
    ]
    assert bodies(daemon, "/v1/fleet/push")[0] == {"handles": [A, B]}
    told = [
        {name: value for name, value in one.items() if name != "event"}
        for one in map(pushed, (A, B), ("uploaded", "there"))
    ]
    assert document["pushed"] == told
    assert document["summary"] == {"uploaded": 1, "there": 1, "failed": 0}


def test_one_module_that_fails_keeps_no_other_from_the_store(tmp_path: Path) -> None:
    with with_store(
        tmp_path, "/v1/fleet/push", pushing(failed(A, "upstream-not-found"), pushed(B, "uploaded"))
    ) as daemon:
        code, out, said = run(daemon, "fleet", "push", "-q", A, B)
        as_json = run(daemon, "fleet", "push", "--json", "./m", A, B)
    assert (code, out) == (4, f"failed    {A}\nuploaded  {B}\n")
    assert said.startswith(f"hubctl: {A}: the reason [upstream-not-found]\n")
    assert as_json[0] == 1
    problems = [json.loads(line) for line in as_json[2].splitlines()]
    assert [(one["code"], one["handle"]) for one in problems] == [("handle-invalid", "./m"), ("upstream-not-found", A)]


def test_many_handles_are_pushed_in_several_requests(tmp_path: Path) -> None:
    handles = [f"https://h.example/m/{number}" for number in range(150)]

    def script(asked: Asked, connection: Any) -> bool:
        return pushing(*(pushed(one, "there") for one in asked.body["handles"]))(asked, connection)

    with with_store(tmp_path, "/v1/fleet/push", script) as daemon:
        code, out, _ = run(daemon, "fleet", "push", "-q", *handles)
    assert (code, len(out.splitlines())) == (0, 150)
    assert [len(body["handles"]) for body in bodies(daemon, "/v1/fleet/push")] == [100, 50]


def test_what_was_pushed_before_the_daemon_died_is_told_once(tmp_path: Path) -> None:
    scripts = [pushing(pushed(A, "uploaded"), cut=True), pushing(pushed(A, "there"), pushed(B, "uploaded"))]
    with with_store(tmp_path, "/v1/fleet/push", lambda *request: scripts.pop(0)(*request)) as daemon:
        code, out, _ = run(daemon, "fleet", "push", "-q", A, B)
    assert (code, out) == (0, f"uploaded  {A}\nuploaded  {B}\n")


def test_push_on_a_terminal_shows_fetches_and_uploads_under_way(tmp_path: Path) -> None:
    is_read = threading.Event()

    def script(asked: Asked, connection: Any) -> bool:
        is_read.wait(SECONDS)
        return pushing(pushed(A, "uploaded"), pushed(B, "uploaded"))(asked, connection)

    upload = {"handle": B, "key": key(B), "sent_bytes": 30_000_000, "total_bytes": 40_000_000}
    scripts = {
        "/v1/fleet": answer(fleet(uploads=[upload])),
        "/v1/fetches": answer({"fetches": [fetch("a", key=key(A), handle=A)]}),
        "/v1/fleet/push": script,
    }
    with (
        daemon_of(tmp_path, scripts) as daemon,
        Terminal(environ_of(Path(daemon.path), tmp_path), ["fleet", "push", A, B]) as terminal,
    ):
        screen = terminal.read_until("75%")
        assert "uploading" in screen
        assert "transferring" in screen
        is_read.set()
        assert "2 of 2 modules in the store, 2 of them new: 10.0 MB sent" in terminal.read_until(None)
        assert terminal.process.wait(SECONDS) == 0


# prune


def gone(kind: str, name: str, **changes: Any) -> dict[str, Any]:
    plain = {"handle": None, "size_bytes": 5_000_000, "age_seconds": 86400.0, "removed": True}
    return {"event": "pruned", "kind": kind, "name": name, **plain, **changes}


def pruning(*objects: Mapping[str, Any]) -> Script:
    removed = [one for one in objects if one["removed"]]
    sent = sum(one["size_bytes"] for one in removed)
    return stream([*objects, {"event": "done", "done": True, "removed": len(removed), "removed_bytes": sent}])


RECORD = gone("record", key(A), handle=A, size_bytes=500)
ARCHIVE = gone("archive", "d" * 64)


def test_prune_says_what_went(tmp_path: Path) -> None:
    with with_store(tmp_path, "/v1/fleet/prune", pruning(RECORD, ARCHIVE)) as daemon:
        code, out, said = run(daemon, "fleet", "prune", "--older-than", "90d", "--yes")
        document = json.loads(run(daemon, "fleet", "prune", "--older-than", "90d", "--yes", "--json")[1])
    assert code == 0
    assert out.splitlines() == [f"removed  {A}  record  500 B", f"removed  {'d' * 64}  archive  5.0 MB"]
    assert said == "1 record, 1 archive removed, 5.0 MB freed\n"
    assert bodies(daemon, "/v1/fleet/prune")[0] == {"older_than_seconds": 7776000.0, "dry_run": False}
    assert [one["kind"] for one in document["pruned"]] == ["record", "archive"]
    assert document["summary"] == {"removed": 2, "removed_bytes": 5_000_500, "dry_run": False}


def test_a_dry_run_of_prune_shows_the_plan_and_removes_nothing(tmp_path: Path) -> None:
    plan = pruning(*(one | {"removed": False} for one in (RECORD, ARCHIVE)))
    with with_store(tmp_path, "/v1/fleet/prune", plan) as daemon:
        code, out, said = run(daemon, "fleet", "prune", "--older-than", "90d", "--dry-run")
        document = json.loads(run(daemon, "fleet", "prune", "--older-than", "90d", "-n", "--json")[1])
    assert code == 0
    assert [line.split()[:2] for line in out.splitlines()[1:]] == [[A, "record"], ["d" * 64, "archive"]]
    assert said == "1 record, 1 archive would be removed, 5.0 MB would be freed\n"
    assert [body["dry_run"] for body in bodies(daemon, "/v1/fleet/prune")] == [True, True]
    assert document["summary"]["dry_run"] is True


@pytest.mark.parametrize(("reply", "code"), [("\n", 1), ("y\n", 0)], ids=ascii)
def test_prune_on_a_terminal_shows_the_plan_and_asks(tmp_path: Path, reply: str, code: int) -> None:
    def script(asked: Asked, connection: Any) -> bool:
        return pruning(RECORD | {"removed": not asked.body["dry_run"]})(asked, connection)

    with (
        with_store(tmp_path, "/v1/fleet/prune", script) as daemon,
        Terminal(environ_of(Path(daemon.path), tmp_path), ["fleet", "prune", "--older-than", "1h"]) as terminal,
    ):
        assert A in terminal.read_until("Remove them from the store, for all machines? [y/N]")
        terminal.type(reply)
        screen = terminal.read_until(None)
        assert terminal.process.wait(SECONDS) == code
    assert ("1 record removed, 500 B freed" in screen) == (code == 0)
    assert [body["dry_run"] for body in bodies(daemon, "/v1/fleet/prune")] == [True, False][: 2 - code]


def test_prune_with_nothing_to_remove_asks_nothing(tmp_path: Path) -> None:
    with (
        with_store(tmp_path, "/v1/fleet/prune", pruning()) as daemon,
        Terminal(environ_of(Path(daemon.path), tmp_path), ["fleet", "prune", "--older-than", "1h"]) as terminal,
    ):
        assert "nothing would be removed" in terminal.read_until(None)
        assert terminal.process.wait(SECONDS) == 0


# sync --to-store


@pytest.fixture
def lock(tmp_path: Path) -> str:
    file = tmp_path / "hub.lock"
    file.write_bytes(lock_file.dump([Locked(one, "d" * 64, "c" * 64, 7) for one in (A, B)]))
    return str(file)


def resolving(*failures: str) -> Script:
    def script(asked: Asked, connection: Any) -> bool:
        handle = asked.body["handle"]
        lost = {"event": "failed", "problem": {"code": "upstream-denied", "detail": "no"}}
        had = resolved("/c/m", handle=handle, digest="d" * 64, key=key(handle))
        return stream([lost if handle in failures else had])(asked, connection)

    return script


def test_sync_to_the_store_pushes_what_the_lock_file_names(tmp_path: Path, lock: str) -> None:
    scripts = {
        "/v1/fleet": answer(fleet()),
        "/v1/resolve": resolving(),
        "/v1/fleet/push": pushing(pushed(A, "uploaded"), pushed(B, "there")),
    }
    with daemon_of(tmp_path, scripts) as daemon:
        code, out, said = run(daemon, "sync", "--to-store", lock)
        document = json.loads(run(daemon, "sync", "--to-store", "--lock", lock, "--json")[1])
    assert (code, out) == (0, f"uploaded  {A}\nthere     {B}\n")
    assert f"2 of 2 modules in the store, 1 of them new: 5.0 MB sent, {STORE}" in said
    assert bodies(daemon, "/v1/fleet/push") == [{"handles": [A, B]}] * 2
    assert [(one["outcome"], one["stored"]) for one in document["modules"]] == [
        ("cached", "uploaded"),
        ("cached", "there"),
    ]


def test_what_is_not_as_the_lock_file_says_goes_to_no_store(tmp_path: Path, lock: str) -> None:
    scripts = {
        "/v1/fleet": answer(fleet()),
        "/v1/resolve": resolving(A),
        "/v1/fleet/push": pushing(pushed(B, "uploaded")),
    }
    with daemon_of(tmp_path, scripts) as daemon:
        code, out, _ = run(daemon, "sync", "--to-store", lock)
    assert (code, out) == (1, f"failed    {A}\nuploaded  {B}\n")
    assert bodies(daemon, "/v1/fleet/push") == [{"handles": [B]}]


def test_other_content_in_the_store_than_the_lock_file_demands_is_a_mismatch(tmp_path: Path, lock: str) -> None:
    scripts = {
        "/v1/fleet": answer(fleet()),
        "/v1/resolve": resolving(),
        "/v1/fleet/push": pushing(pushed(A, "there", digest="e" * 64), pushed(B, "there")),
    }
    with daemon_of(tmp_path, scripts) as daemon:
        code, out, said = run(daemon, "sync", "--to-store", lock)
    assert (code, out) == (1, f"failed  {A}\nthere   {B}\n")
    assert "[digest-mismatch]" in said
    assert "e" * 64 in said


def test_what_is_in_an_object_store_already_is_not_pushed(tmp_path: Path) -> None:
    lock = tmp_path / "hub.lock"
    lock.write_bytes(lock_file.dump([Locked(one, "d" * 64, "c" * 64, 7) for one in ("s3://models/m/1", A)]))
    scripts = {
        "/v1/fleet": answer(fleet()),
        "/v1/resolve": resolving(),
        "/v1/fleet/push": pushing(pushed(A, "uploaded")),
    }
    with daemon_of(tmp_path, scripts) as daemon:
        code, out, _ = run(daemon, "sync", "--to-store", str(lock))
    assert (code, sorted(out.splitlines())) == (0, ["cached    s3://models/m/1", f"uploaded  {A}"])
    assert bodies(daemon, "/v1/fleet/push") == [{"handles": [A]}]


def test_sync_without_the_store_asks_for_none(tmp_path: Path, lock: str) -> None:
    with daemon_of(tmp_path, {"/v1/resolve": resolving()}) as daemon:
        code, out, _ = run(daemon, "sync", lock)
        rows = json.loads(run(daemon, "sync", "--json", lock)[1])["modules"]
    assert (code, out) == (0, f"cached  {A}\ncached  {B}\n")
    assert "stored" not in rows[0]
    assert {one.path for one in daemon.asked} == {"/v1/resolve"}

"""`hubctl rm`, `pin`, `unpin`, `prune` and `verify` against a daemon that answers as it is told."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hubclient.cli.app import app
from hubclient.contract.handles import key
from tests.support.hubctl import SECONDS, Terminal, environ_of
from tests.support.scripted_daemon import Script, ScriptedDaemon, answer, hang_up, problem, resolved, stream

A, B = "https://h.example/a/1", "https://h.example/b/1"


def run(daemon: ScriptedDaemon, *arguments: str) -> tuple[int, str, str]:
    environ = {"HUBD_SOCKET": daemon.path, "HUBD_TIMEOUT": "5", "COLUMNS": "100", "TERM": "dumb"}
    result = CliRunner(env=environ).invoke(app, arguments, prog_name="hubctl")
    return result.exit_code, result.stdout, result.stderr


def scripted(tmp_path: Path, *scripts: Script) -> ScriptedDaemon:
    return ScriptedDaemon(tmp_path / "hubd.sock", *scripts)


def asked(daemon: ScriptedDaemon) -> list[tuple[str, str]]:
    return [(one.method, one.path) for one in daemon.asked]


def path_of(handle: str) -> str:
    return f"/v1/modules/{key(handle)}"


def removed(handle: str, freed_bytes: int, *shared_with: str) -> Script:
    return answer({"handle": handle, "freed_bytes": freed_bytes, "shared_with": list(shared_with)})


# rm


def test_rm_says_what_was_removed_and_what_that_freed(tmp_path: Path) -> None:
    with scripted(tmp_path, removed(A, 5_000_000), removed(B, 0, "https://h.example/c/1")) as daemon:
        code, out, said = run(daemon, "rm", A, B, A)
    assert (code, said) == (0, "")
    assert out.splitlines() == [
        f"removed  {A}  5.0 MB freed",
        f"removed  {B}  nothing freed, the content is shared with https://h.example/c/1",
    ]
    assert asked(daemon) == [("DELETE", path_of(A)), ("DELETE", path_of(B))]


def test_rm_takes_a_key_where_several_users_have_a_handle(tmp_path: Path) -> None:
    key = path_of(A).rpartition("/")[2]
    with scripted(tmp_path, removed(A, 0, A)) as daemon:
        code, out, _ = run(daemon, "rm", key)
    assert (code, out) == (0, f"removed  {A}  nothing freed, the content is shared with {A} of another user\n")
    assert asked(daemon) == [("DELETE", path_of(A))]


def test_rm_of_what_is_in_use_names_its_users_and_the_way_out_and_goes_on(tmp_path: Path) -> None:
    in_use, users = problem("in-use", 409, "a program holds it"), answer({"users": [0, 54301]})
    with scripted(tmp_path, in_use, users, removed(B, 1)) as daemon:
        code, out, said = run(daemon, "rm", A, B)
    assert (code, out) == (1, f"removed  {B}  1 B freed\n")
    assert f"{A}: a program holds it [in-use]" in said
    assert "used lately by root (uid 0), uid 54301" in said
    assert "show --holders" in said
    assert "rm --force" in said


def test_rm_json_is_one_document_and_errors_are_problems(tmp_path: Path) -> None:
    with scripted(tmp_path, problem("not-found", 404), removed(B, 1)) as daemon:
        code, out, said = run(daemon, "rm", "--json", "some/path", A, B)
    assert code == 1
    assert [one["handle"] for one in json.loads(out)["removed"]] == [B]
    problems = [json.loads(line) for line in said.splitlines()]
    assert [(one["code"], one["handle"]) for one in problems] == [("handle-invalid", "some/path"), ("not-found", A)]


def test_force_is_passed_on_and_asks_nobody_where_nobody_can_answer(tmp_path: Path) -> None:
    with scripted(tmp_path, removed(A, 1)) as daemon:
        assert run(daemon, "rm", "--force", A)[0] == 0
    assert asked(daemon) == [("DELETE", path_of(A) + "?force=true")]


@pytest.mark.parametrize(("reply", "code", "requests"), [("n\n", 1, 0), ("\x04", 1, 0), ("y\n", 0, 1)], ids=ascii)
def test_force_asks_on_a_terminal(tmp_path: Path, reply: str, code: int, requests: int) -> None:
    with (
        scripted(tmp_path, removed(A, 1)) as daemon,
        Terminal(environ_of(Path(daemon.path), tmp_path), ["rm", "--force", A]) as terminal,
    ):
        terminal.read_until("even from under programs that use them? [y/N]")
        terminal.type(reply)
        terminal.read_until(None)
        assert terminal.process.wait(SECONDS) == code
    assert len(daemon.asked) == requests


def test_who_may_not_change_the_cache_is_told_who_may(tmp_path: Path) -> None:
    with scripted(tmp_path, problem("access-denied", 403, "this is for administrators")) as daemon:
        code, _, said = run(daemon, "rm", A)
    assert code == 1
    assert "run hubctl as root" in said


# pin


def test_pin_and_unpin_say_so(tmp_path: Path) -> None:
    with scripted(tmp_path, answer({"handle": A, "pinned": True})) as daemon:
        assert run(daemon, "pin", A) == (0, f"pinned  {A}\n", "")
        assert run(daemon, "unpin", A) == (0, f"unpinned  {A}\n", "")
    assert asked(daemon) == [("PUT", path_of(A) + "/pin"), ("DELETE", path_of(A) + "/pin")]


def test_pin_fetches_what_is_missing_first(tmp_path: Path) -> None:
    module, missing = answer({"handle": A, "pinned": True}), problem("not-found", 404)
    fetched = stream([resolved("/c/m", handle=B, outcome="fetched", size_bytes=7)])
    with scripted(tmp_path, module, missing, fetched, answer({"handle": B, "pinned": True})) as daemon:
        code, out, said = run(daemon, "pin", A, B)
    assert (code, out) == (0, f"pinned  {A}\npinned  {B}\n")
    assert said.startswith(f"fetched  {B}  ")
    assert asked(daemon)[-2:] == [("POST", "/v1/resolve"), ("PUT", path_of(B) + "/pin")]


def test_a_fetch_that_fails_spoils_no_other_pin(tmp_path: Path) -> None:
    lost = stream([{"event": "failed", "problem": {"code": "upstream-not-found", "detail": "none there"}}])
    with scripted(tmp_path, problem("not-found", 404), answer({"handle": B, "pinned": True}), lost) as daemon:
        code, out, said = run(daemon, "pin", "--json", A, B)
    assert code == 4
    assert json.loads(out) == {"modules": [{"handle": B, "pinned": True}]}
    assert json.loads(said)["code"] == "upstream-not-found"


# prune


def pruned(digest: str, *handles: str, **fields: Any) -> Mapping[str, Any]:
    return {
        "event": "pruned",
        "digest": digest,
        "handles": list(handles),
        "size_bytes": 4_900_000,
        "disk_bytes": 5_000_000,
        "last_used_at": "2026-01-01T00:00:00Z",
        "removed": True,
        "reason": None,
        **fields,
    }


def pruning(*trees: Mapping[str, Any], dry_run: bool = False, cut: bool = False) -> Script:
    gone = [tree for tree in trees if tree["reason"] is None]
    end = {
        "event": "done",
        "modules": sum(len(tree["handles"]) for tree in gone),
        "freed_bytes": 5_000_000 * len(gone),
        "used_bytes": 30_000_000,
        "dry_run": dry_run,
        "pinned_bytes": 2_000_000,
        "leased_bytes": 0,
        "in_flight_bytes": 1_000,
    }
    return stream(list(trees) if cut else [*trees, end], cut=cut)


LAST = "30.0 MB used now, of it 2.0 MB pinned, 1.0 KB in flight"


def test_prune_says_what_went_and_what_stays(tmp_path: Path) -> None:
    kept = pruned("2", B, removed=False, reason="in-use")
    with scripted(tmp_path, pruning(pruned("1", A, "https://h.example/c/1"), kept)) as daemon:
        code, out, said = run(daemon, "prune", "--older-than", "30d", "--to-size", "50GB", "--yes")
    assert code == 0
    assert out == f"removed  {A}, https://h.example/c/1  5.0 MB\n"
    assert said.splitlines() == [f"kept  {B}  in use", f"2 modules removed, 5.0 MB freed; {LAST}"]
    assert daemon.asked[0].body == {"older_than_seconds": 2592000.0, "to_size_bytes": 50 * 10**9}


def test_prune_names_broken_off_downloads_and_nothing_that_stayed(tmp_path: Path) -> None:
    pinned_meanwhile = pruned("2", B, removed=False)
    with scripted(
        tmp_path,
        pruning(pruned("1"), pinned_meanwhile),
        pruning(pruned("1", removed=False), dry_run=True),
    ) as daemon:
        _, out, said = run(daemon, "prune", "--to-size", "0B", "--yes")
        assert out == "removed  (a broken-off download)  5.0 MB\n"
        assert "kept" not in said
        assert "(a broken-off download)  5.0 MB" in run(daemon, "prune", "--to-size", "0B", "--dry-run")[1]


def test_a_dry_run_of_prune_shows_the_plan(tmp_path: Path) -> None:
    held = pruned("2", "https://h.example/c/1", removed=False, reason="in-use")
    plan = pruning(pruned("1", A, B, removed=False), held, dry_run=True)
    with scripted(tmp_path, plan) as daemon:
        code, out, said = run(daemon, "prune", "--to-size", "0B", "--dry-run")
        document = json.loads(run(daemon, "prune", "--to-size", "0B", "--dry-run", "--json")[1])
    assert code == 0
    assert [line.split() for line in out.splitlines()[1:]] == [
        [A, "5.0", "MB", "2026-01-01T00:00:00Z"],
        [B, "2026-01-01T00:00:00Z"],
    ]
    assert said.splitlines() == [
        "kept  https://h.example/c/1  in use",
        f"2 modules would be removed, 5.0 MB would be freed; {LAST}",
    ]
    assert daemon.asked[0].body == {"to_size_bytes": 0, "dry_run": True}
    assert (document["pruned"][0]["digest"], document["summary"]["dry_run"]) == ("1", True)


@pytest.mark.parametrize(("reply", "code"), [("\n", 1), ("yes\n", 0)], ids=ascii)
def test_prune_on_a_terminal_shows_the_plan_and_asks(tmp_path: Path, reply: str, code: int) -> None:
    with (
        scripted(tmp_path, pruning(pruned("1", A, removed=False), dry_run=True), pruning(pruned("1", A))) as daemon,
        Terminal(environ_of(Path(daemon.path), tmp_path), ["prune", "--older-than", "1h"]) as terminal,
    ):
        plan = terminal.read_until("Remove them? [y/N]")
        terminal.type(reply)
        screen = terminal.read_until(None)
        assert terminal.process.wait(SECONDS) == code
    assert f"{A}  5.0 MB" in plan
    assert ("1 module removed, 5.0 MB freed" in screen) == (code == 0)
    assert [one.body.get("dry_run", False) for one in daemon.asked] == [True, False][: 2 - code]


def test_prune_with_nothing_to_remove_asks_nothing(tmp_path: Path) -> None:
    with (
        scripted(tmp_path, pruning(dry_run=True)) as daemon,
        Terminal(environ_of(Path(daemon.path), tmp_path), ["prune", "--older-than", "1h"]) as terminal,
    ):
        assert "0 modules would be removed" in terminal.read_until(None)
        assert terminal.process.wait(SECONDS) == 0


def test_what_a_daemon_pruned_before_it_died_counts(tmp_path: Path) -> None:
    with scripted(tmp_path, pruning(pruned("1", A), cut=True), pruning(pruned("2", B))) as daemon:
        code, out, said = run(daemon, "prune", "--older-than", "1s", "-y")
    assert (code, len(out.splitlines())) == (0, 2)
    assert said.startswith("2 modules removed, 10.0 MB freed")


# verify


def checked(digest: str, outcome: str, *handles: str, **fields: Any) -> Mapping[str, Any]:
    files = [] if outcome == "intact" else ["saved_model.pb", "assets/a\x1b.txt"]
    plain = {"size_bytes": 5_000_000, "problem": None}
    return {
        "event": "checked",
        "digest": digest,
        "handles": list(handles),
        "outcome": outcome,
        "files": files,
        **plain,
        **fields,
    }


def verifying(*trees: Mapping[str, Any]) -> Script:
    outcomes = [tree["outcome"] for tree in trees]
    end = {
        "event": "done",
        "modules": len(trees),
        "size_bytes": 5_000_000 * len(trees),
        "damaged": sum(outcome != "intact" for outcome in outcomes),
        "repaired": outcomes.count("repaired"),
        "seconds": 1.5,
    }
    progress = {"event": "progress", "done_bytes": 1, "total_bytes": 2, "modules_done": 0, "modules_total": 1}
    return stream([progress, *trees, end])


def test_verify_says_that_all_is_intact(tmp_path: Path) -> None:
    with scripted(tmp_path, verifying(checked("1", "intact", A))) as daemon:
        assert run(daemon, "verify", "--all") == (0, "", "verified 1 module, 5.0 MB in 1.5 s: all intact\n")
    assert daemon.asked[0].body == {}


def test_verify_names_what_is_damaged_with_its_files_and_fails(tmp_path: Path) -> None:
    found = answer({"key": key(A)})
    with scripted(tmp_path, found, verifying(checked("1", "damaged", A, B))) as daemon:
        code, out, said = run(daemon, "verify", A)
    assert code == 1
    assert out == f"damaged  {A}, {B}  saved_model.pb, assets/a\\x1b.txt\n"
    first, second = said.splitlines()
    assert first == "verified 1 module, 5.0 MB in 1.5 s: 1 damaged"
    assert "verify --repair" in second
    assert daemon.asked[1].body == {"keys": [key(A)]}


def test_what_was_repaired_is_no_failure_and_what_was_not_says_why(tmp_path: Path) -> None:
    lost = {"code": "upstream-not-found", "detail": "it is gone there"}
    with scripted(tmp_path, verifying(checked("1", "repaired", A)), verifying()) as daemon:
        assert run(daemon, "verify", "--all", "--repair", "-q")[0] == 0
        assert daemon.asked[0].body == {"repair": True}
    with scripted(
        tmp_path, verifying(checked("1", "repaired", A), checked("2", "unrepaired", B, problem=lost))
    ) as daemon:
        code, out, said = run(daemon, "verify", "--all", "--repair")
    assert code == 1
    assert out.splitlines()[1].endswith("it is gone there [upstream-not-found]")
    assert said.endswith("2 damaged, 1 repaired\n")


def test_verify_of_what_the_cache_does_not_have_is_not_found(tmp_path: Path) -> None:
    with scripted(tmp_path, problem("not-found", 404)) as daemon:
        code, out, said = run(daemon, "verify", A)
    assert (code, out) == (1, "")
    assert f"{A}: the cache does not have it [not-found]" in said


def test_a_module_that_is_checked_again_after_the_daemon_died_is_told_once(tmp_path: Path) -> None:
    damaged = checked("1", "damaged", A)
    with scripted(tmp_path, stream([damaged], cut=True), hang_up, verifying(damaged)) as daemon:
        code, out, _ = run(daemon, "verify", "--all", "--json")
        document = json.loads(out)
    assert (code, [one["outcome"] for one in document["checked"]]) == (1, ["damaged"])
    assert document["summary"]["damaged"] == 1


def test_verify_on_a_terminal_shows_a_bar_and_the_damage_beside_it(tmp_path: Path) -> None:
    with (
        scripted(tmp_path, verifying(checked("1", "damaged", A))) as daemon,
        Terminal(environ_of(Path(daemon.path), tmp_path), ["verify", "--all"]) as terminal,
    ):
        screen = terminal.read_until(None)
        assert terminal.process.wait(SECONDS) == 1
    assert "verifying 0 of 1 module" in screen
    assert f"damaged  {A}  saved_model.pb" in screen
    assert screen.count("damaged  ") == 1
    assert screen.rindex("\x1b[?25h") > screen.rindex("verifying 0 of")

"""`hubctl doctor`: what each check says of what it finds."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import pytest

from hubclient import finding
from hubclient.cli.checks import Finding, cache, daemon, fleet, machine, variables
from hubclient.cli.doctor import examine, summary
from hubclient.cli.snapshot import NotRunning, reach_running, silence
from hubclient.contract import mounts
from hubclient.contract.errors import AccessDenied, DaemonUnreachable
from hubclient.finding import Place
from tests.support import api_answers, uids
from tests.support.api_answers import status
from tests.support.scripted_daemon import Script, ScriptedDaemon, answer, by_path, problem


def worst(findings: Iterable[Finding]) -> list[tuple[str, str, str]]:
    """Check, state and text of all that is not well."""
    return [(one.check, one.state, one.what) for one in findings if one.state != "ok"]


def of(findings: Iterable[Finding], check: str) -> list[Finding]:
    return [one for one in findings if one.check == check]


def environ_of(directory: Path, **more: str) -> dict[str, str]:
    return {"HOME": str(directory), "PATH": os.environ["PATH"], **more}


# variables


@pytest.mark.parametrize(
    ("name", "value", "state", "said"),
    [
        ("HUBD_SOKET", "/x", "warn", "is HUBD_SOCKET meant?"),
        ("HUBD_FROBNICATE_ALL", "1", "warn", "HUBD_FROBNICATE_ALL means nothing to hubd or hubclient"),
        ("HUBD_TIMEOUT", "soon", "fail", "it must be a number of seconds"),
        ("HUBD_TRUST_UID", "alice", "fail", "it must be the number of a user"),
        ("HUBD_LOCK", "/nowhere/hub.lock", "fail", "/nowhere/hub.lock"),
        ("HUBD_AUTOSTART", "yes", "warn", "it is 0 or 1"),
        ("HUBD_AUTOSTART", "0", "warn", "no daemon of your own is started"),
        ("HUBD_OFFLINE", "1", "warn", "only cached modules are answered"),
    ],
)
def test_a_variable_that_does_not_do_what_was_meant_is_told(
    tmp_path: Path, name: str, value: str, state: str, said: str
) -> None:
    found = list(variables.check(environ_of(tmp_path, **{name: value}), None))
    assert [(one.check, one.state) for one in found] == [("variables", state)]
    assert said in found[0].what
    assert found[0].remedy


def test_variables_that_mean_something_are_well(tmp_path: Path) -> None:
    right = {"HUBD_TIMEOUT": "5", "HUBD_TRUST_UID": "1000", "HUBD_PATH_12": "/x", "HUBD_OFFLINE": "0"}
    assert worst(variables.check(environ_of(tmp_path, **right), None)) == []


def test_a_proxy_of_the_environment_is_said_to_be_ignored(tmp_path: Path) -> None:
    found = worst(variables.check(environ_of(tmp_path, https_proxy="http://p:1"), None))
    assert found == [("proxy", "warn", "https_proxy: hubd does not read that")]


def test_what_tfhub_cache_dir_means_is_told(tmp_path: Path) -> None:
    (tmp_path / "layout").write_text("1\n")
    environ = environ_of(tmp_path, TFHUB_CACHE_DIR=str(tmp_path / "tfhub"))
    own, other = finding.user_place(environ), Place("/x/hubd.sock", "/x/cache", "explicit")
    assert of(variables.check(environ, own), "TFHUB_CACHE_DIR")[0].what == f"TFHUB_CACHE_DIR means the cache {tmp_path}"
    [found] = of(variables.check(environ, other), "TFHUB_CACHE_DIR")
    assert (found.state, "another one: /x/cache" in found.what) == ("warn", True)


# the socket and who answers


def test_a_directory_that_others_can_write_to_fails(tmp_path: Path) -> None:
    place = Place(str(tmp_path / "hubd.sock"), None, "explicit")
    tmp_path.chmod(0o777)
    [(check, state, what)] = worst(daemon.check_socket(place))
    assert (check, state) == ("socket", "fail")
    assert "others can put another socket there" in what
    tmp_path.chmod(0o1777)
    assert [state for _, state, _ in worst(daemon.check_socket(place))] == ["warn"]
    tmp_path.chmod(0o755)
    assert worst(daemon.check_socket(place)) == []


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (Place("/nowhere/hubd.sock", None, "explicit"), "HUBD_SOCKET names that socket"),
        (Place("/run/" + "x" * 120, None, "explicit"), "107 are possible"),
    ],
    ids=["no directory", "too long"],
)
def test_a_socket_that_cannot_be_fails(place: Place, said: str) -> None:
    [(check, state, what)] = worst(daemon.check_socket(place))
    assert (check, state) == ("socket", "fail")
    assert said in what


def test_a_file_in_the_sockets_place_fails(tmp_path: Path) -> None:
    (tmp_path / "hubd.sock").touch()
    place = Place(str(tmp_path / "hubd.sock"), None, "explicit")
    assert worst(daemon.check_socket(place)) == [("socket", "fail", f"{place.socket} is no socket")]


def test_another_version_and_what_the_daemon_warns_of_are_warnings(tmp_path: Path) -> None:
    told = status(version="9.9.9", warnings=["the disk is full"])
    found = worst(daemon.check_answer(finding.user_place(environ_of(tmp_path)), told, None))
    assert [(check, state) for check, state, _ in found] == [("version", "warn"), ("daemon", "warn")]
    assert "hubd 9.9.9" in found[0][2]
    assert found[1][2] == "the disk is full"


def test_who_may_not_ask_is_sent_to_an_administrator(tmp_path: Path) -> None:
    place = Place(str(tmp_path / "hubd.sock"), None, "explicit")
    with ScriptedDaemon(tmp_path / "hubd.sock", problem("access-denied", 403, "you may not ask")):
        told, error = daemon.ask(environ_of(tmp_path, HUBD_SOCKET=place.socket))
    assert (told, type(error)) == (None, AccessDenied)
    [found] = daemon.check_answer(place, told, error)
    assert (found.state, found.what) == ("fail", "you may not ask")
    assert "administrator" in str(found.remedy)


@pytest.mark.parametrize(("kind", "said"), [("service", "`systemctl status hubd`"), ("user", "see its log")])
def test_where_systemd_listens_silence_may_mean_that_no_daemon_starts(kind: Any, said: str) -> None:
    place = Place("/nowhere/hubd.sock", None, kind)
    assert said in silence(place)
    [found] = daemon.check_answer(place, None, DaemonUnreachable(silence(place)))
    assert ("fails to start" in found.what) == ("hubd check-config" in str(found.remedy)) == (kind == "service")


def test_who_started_a_daemon_beside_a_stopped_service_is_told_of_that_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(cast(Any, finding.find).__kwdefaults__, "service_socket", str(tmp_path / "hubd.sock"))
    with pytest.raises(DaemonUnreachable, match="the machine's service"):
        reach_running(environ_of(tmp_path))
    environ = environ_of(tmp_path, HUBD_AUTOSTART="1", XDG_CACHE_HOME=str(tmp_path))
    with pytest.raises(NotRunning, match=str(tmp_path / "hubd")):
        reach_running(environ)
    socket = Path(finding.find(environ).socket)
    socket.parent.mkdir(parents=True, mode=0o700)
    with ScriptedDaemon(socket, answer(status()), answer({"fetches": []})), reach_running(environ) as found:
        assert found.place.socket == str(socket)


# systemd


def unit(name: str, **changes: str) -> str:
    usual = {"LoadState": "loaded", "ActiveState": "active", "SubState": "running", "UnitFileState": "enabled"}
    return "\n".join(f"{key}={value}" for key, value in {"Id": name, "Result": "success", **usual, **changes}.items())


@pytest.mark.parametrize(
    ("block", "state", "said"),
    [
        (unit("hubd.service", NRestarts="0"), "ok", "hubd.service is active (running)"),
        (unit("hubd.service", ActiveState="inactive", SubState="dead"), "ok", "is inactive (dead)"),  # its socket waits
        (unit("hubd.service", ActiveState="failed", SubState="failed", Result="watchdog"), "fail", ": watchdog"),
        (unit("hubd.service", NRestarts="7"), "warn", "started anew 7 times"),
        (unit("hubd.socket", SubState="listening"), "ok", "hubd.socket is active (listening)"),
        (unit("hubd.socket", ActiveState="inactive", SubState="dead"), "fail", "hubd.socket is inactive"),
        (unit("hubd.socket", UnitFileState="disabled"), "warn", "but not at the next boot"),
        (unit("hubd.socket", LoadState="not-found", ActiveState="inactive"), "warn", "is not installed"),
    ],
)
def test_units_are_judged_by_what_systemd_shows(block: str, state: str, said: str) -> None:
    other = unit("hubd.other")
    found = list(daemon.judge_units(f"{block}\n\n{other}\n"))
    assert [one.state for one in found] == [state, "ok"]
    assert said in found[0].what
    assert state == "ok" or "`" in str(found[0].remedy)


# the cache


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "cache"
    for directory in (root, root / "handles", root / "trees"):
        directory.mkdir(mode=0o755)
    (root / "layout").write_text("1\n")
    (root / "daemon.lock").write_text("{}")
    return root


def checked(root: Path, *, runs: bool = False) -> list[tuple[str, str, str]]:
    place = Place(str(root.parent / "hubd.sock"), str(root), "explicit")
    told = status(cache={"dir": str(root)}) if runs else None
    found = worst(cache.check(environ_of(root.parent), place, told))
    return [one for one in found if one[0] != "disk"]  # the machine's own


def test_a_cache_in_order_is_well(root: Path) -> None:
    assert checked(root) == []


def test_a_cache_that_others_can_write_to_fails(root: Path) -> None:
    (root / "trees").chmod(0o777)
    [(check, state, what)] = checked(root)
    assert (check, state) == ("cache", "fail")
    assert "chmod go-w" in what


@uids.needs_root
def test_a_cache_that_is_closed_to_this_user_is_told_once() -> None:
    with uids.directory_of(uids.BOB) as directory:
        root = Path(directory, "cache")
        root.mkdir(mode=0o700)
        [(check, state, what)] = uids.as_user(uids.ALICE, lambda: checked(root))
    assert (check, state) == ("cache", "warn")
    assert "is closed to you" in what


def test_a_newer_layout_is_told(root: Path) -> None:
    (root / "layout").write_text("2\n")
    assert checked(root) == [("layout", "warn", "it is 2, and this hubclient knows 1")]


def test_a_lock_of_the_daemon_that_is_not_seen_here_fails(root: Path) -> None:
    [(check, state, what)] = checked(root, runs=True)
    assert (check, state) == ("leases", "fail")
    assert "may remove what you use" in what


def test_a_network_file_system_fails(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mounts, "file_system", lambda directory: "nfs4")
    [(check, state, what)] = checked(root)
    assert (check, state) == ("file system", "fail")
    assert "(nfs4)" in what


def test_a_cache_that_is_not_to_be_seen_here_says_to_mount_it(tmp_path: Path) -> None:
    place = Place(str(tmp_path / "hubd.sock"), None, "explicit")
    told = status(cache={"dir": "/nowhere/cache"})
    [found] = cache.check(environ_of(tmp_path), place, told)
    assert (found.state, found.remedy) == ("fail", "mount it, read-only will do, at the same path")


def test_files_from_the_future_are_told(root: Path) -> None:
    record = root / "handles" / ("0" * 64 + ".json")
    record.touch()
    later = time.time() + 7200
    os.utime(record, (later, later))
    [(check, state, what)] = worst(cache.check_clock(str(root)))
    assert (check, state) == ("clock", "warn")
    assert "from 2 h later" in what
    assert worst(cache.check_clock(str(root), now=later)) == []


def test_links_say_until_when_they_hold_and_are_no_sign_of_a_wrong_clock(root: Path) -> None:
    link = root / "handles" / ("0" * 64)
    link.symlink_to("../trees/x")
    later = time.time() + 7200
    os.utime(link, (later, later), follow_symlinks=False)
    assert worst(cache.check_clock(str(root))) == []


# the machine


def test_few_inotify_watches_are_told(tmp_path: Path) -> None:
    kernel = tmp_path / "sys/fs/inotify"
    kernel.mkdir(parents=True)
    (kernel / "max_user_watches").write_text("8\n")
    (kernel / "max_user_instances").write_text("128\n")
    [found] = of(machine.check_limits(str(tmp_path)), "inotify")
    assert (found.state, "8 watches" in found.what) == ("warn", True)


# the fleet's store


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (answer(api_answers.fleet()), [("ok", "s3://bucket/prefix answers, read-write")]),
        (
            answer(api_answers.fleet(state="off", store=None)),
            [("ok", "none is configured: no store is asked")],
        ),
        (
            answer(api_answers.fleet(state="denied", trouble="no such key")),
            [("warn", "the fleet's store s3://bucket/prefix denies something to this machine: no such key")],
        ),
        (problem("not-found", 404), []),
    ],
    ids=["well", "off", "denied", "older daemon"],
)
def test_the_fleets_store_is_told_by_the_daemons_own_words(
    tmp_path: Path, script: Script, expected: list[tuple[str, str]]
) -> None:
    with ScriptedDaemon(tmp_path / "s", script):
        found = list(fleet.check(environ_of(tmp_path, HUBD_SOCKET=str(tmp_path / "s"))))
    assert [(one.state, one.what) for one in found] == expected
    assert all(one.remedy for one in found if one.state == "warn")


def test_a_store_that_is_away_is_told_once(tmp_path: Path) -> None:
    away = api_answers.fleet(state="away")
    answers = {"/v1/status": status(fleet=away), "/v1/fetches": {"fetches": []}, "/v1/fleet": away}
    with ScriptedDaemon(tmp_path / "s", by_path({path: answer(body) for path, body in answers.items()})):
        found = examine(environ_of(tmp_path, HUBD_SOCKET=str(tmp_path / "s")))
    assert [one.check for one in found if "the fleet's store" in one.what] == ["fleet"]


# all of it


def test_one_check_that_cannot_be_made_spoils_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(place: Place) -> list[Finding]:
        raise OSError("the disk is on fire")

    monkeypatch.setattr(daemon, "check_socket", broken)
    with ScriptedDaemon(tmp_path / "s", answer({**status(), "fetches": []})):
        found = examine(environ_of(tmp_path, HUBD_SOCKET=str(tmp_path / "s")))
    assert ("socket", "fail", "this could not be looked at: the disk is on fire") in worst(found)
    assert {"variables", "answer", "files", "python", "tensorflow"} <= {one.check for one in found}


@pytest.mark.parametrize(
    ("failed", "warned", "said"),
    [
        (0, 0, "all is well"),
        (0, 1, "all works, with 1 warning"),
        (2, 0, "2 things must be mended"),
        (1, 2, "1 thing must be mended, and 2 warnings"),
    ],
)
def test_the_last_line_answers_the_question(failed: int, warned: int, said: str) -> None:
    assert summary(failed, warned) == said


def test_a_daemon_that_is_none_is_told_and_spoils_no_other_check(tmp_path: Path) -> None:
    path = tmp_path / "hubd.sock"
    with ScriptedDaemon(path, answer({})):
        found = examine(environ_of(tmp_path, HUBD_SOCKET=str(path)))
    assert [one.what for one in of(found, "answer")] == [f"what answers on {path} is no hubd: its status is {{}}"]
    assert of(found, "python")

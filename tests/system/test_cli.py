"""hubctl as its users run it: a process of its own against a real daemon, with pipes and with a terminal."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.archives import archive
from tests.support.daemon import Daemon
from tests.support.hubctl import COMMAND, SECONDS, Terminal, environ_for, hubctl
from tests.support.origin import Answer, Origin

ARCHIVE = archive(
    {"saved_model.pb": b"\x08\x01\x12\x00", "variables/variables.index": random.Random(1).randbytes(6_000_000)}
)
SHOW_CURSOR = "\x1b[?25h"


@pytest.fixture
def gone(tmp_path: Path) -> Daemon:
    """A daemon as it is after a kill: its socket is still there, and nobody listens."""
    daemon = Daemon(tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        left.bind(str(daemon.socket))
    return daemon


def begin(daemon: Daemon, *arguments: str) -> subprocess.Popen[str]:
    """A command that is under way."""
    return subprocess.Popen(
        [*COMMAND, *arguments],
        env=environ_for(daemon),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(daemon: Daemon, is_so: Callable[[list[dict[str, Any]]], bool]) -> None:
    """Returns when the daemon's fetches are as wanted."""
    deadline = time.monotonic() + SECONDS
    while not is_so(fetches := daemon.request("GET", "/v1/fetches")[1]["fetches"]):
        assert time.monotonic() < deadline, fetches


def gated(origin: Origin, path: str = "/m/1") -> tuple[str, Answer]:
    """A handle whose download stops in its middle until its gate is opened."""
    answer = Answer(ARCHIVE, gate_after_bytes=4_000_000)
    return origin.serve(path, answer), answer


# get


def test_get_prints_the_path_alone_on_stdout_and_says_fetched_on_stderr(shared_daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(ARCHIVE))
    done = hubctl(shared_daemon, "get", handle)
    assert done.returncode == 0, done.stderr
    path = Path(done.stdout.removesuffix("\n"))
    assert (path / "saved_model.pb").is_file()
    assert path.is_relative_to(shared_daemon.cache)
    assert done.stderr.splitlines()[-1].startswith(f"fetched  {handle}  ")
    assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize("options", [[], ["--quiet"], ["--offline"]], ids=str)
def test_a_cached_handle_needs_no_daemon(daemon: Daemon, origin: Origin, options: list[str]) -> None:
    handle = origin.serve("/m/1", Answer(ARCHIVE))
    first = hubctl(daemon, "get", handle)
    daemon.kill()
    again = hubctl(daemon, "get", handle, *options)
    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert again.stderr == "" if options == ["--quiet"] else again.stderr.startswith(f"hit  {handle}  in ")


@pytest.mark.parametrize("options", [[], ["--quiet"]], ids=str)
def test_a_plain_hit_is_answered_without_the_parser(shared_daemon: Daemon, origin: Origin, options: list[str]) -> None:
    handle = origin.serve("/m/1", Answer(ARCHIVE))
    hubctl(shared_daemon, "get", handle)
    done = hubctl(shared_daemon, "get", *options, handle, PYTHONPROFILEIMPORTTIME="1")
    assert done.stdout.endswith("/module\n")
    imported = done.stderr
    assert "hubclient.cli.cached" in imported
    for heavy in ("typer", "rich", "http.client", "json", "pydantic", "tensorflow"):
        assert f" {heavy}\n" not in imported


def test_several_handles_come_in_order_and_one_failure_spoils_no_other(shared_daemon: Daemon, origin: Origin) -> None:
    first = origin.serve("/m/1", Answer(ARCHIVE))
    second = origin.serve("/m/2", Answer(archive({"saved_model.pb": b"\x08\x01\x12\x00"})))
    missing = origin.url("/none/1")
    done = hubctl(shared_daemon, "get", second, missing, first, second)
    paths = {handle: shared_daemon.resolve(handle)[1]["path"] for handle in (first, second)}
    assert done.stdout.splitlines() == [paths[second], paths[first], paths[second]]
    assert done.returncode == 4
    assert f"hubctl: {missing}: " in done.stderr
    assert "[upstream-not-found]" in done.stderr
    assert len(origin.asked("/m/2")) == 1


def test_get_json_is_one_document_and_problems_are_json_on_stderr(shared_daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(ARCHIVE))
    fetched = hubctl(shared_daemon, "get", "--json", handle)
    document = json.loads(fetched.stdout)
    assert document == shared_daemon.resolve(handle)[1] | {"outcome": "fetched", "tier": "origin"}
    assert fetched.stderr == ""

    both = hubctl(shared_daemon, "get", "--json", handle, origin.url("/none/1"))
    (hit,) = json.loads(both.stdout)
    unknown_to_clients = {"size_bytes": None, "fetched_at": None}
    assert hit == document | {"outcome": "hit", "tier": "local"} | unknown_to_clients
    problem = json.loads(both.stderr)
    assert (problem["code"], problem["handle"]) == ("upstream-not-found", origin.url("/none/1"))
    assert both.returncode == 4


def test_a_digest_is_demanded_of_cached_modules_too(shared_daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(ARCHIVE))
    hubctl(shared_daemon, "get", handle)
    right = hubctl(shared_daemon, "get", handle, "--digest", "sha256:" + hashlib.sha256(ARCHIVE).hexdigest())
    assert right.returncode == 0
    wrong = hubctl(shared_daemon, "get", handle, "--digest", "sha256:" + "0" * 64)
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert "[digest-mismatch]" in wrong.stderr


def test_refresh_asks_the_origin_about_a_cached_module(shared_daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/latest", Answer(ARCHIVE, etag='"1"'))
    hubctl(shared_daemon, "get", handle)
    hubctl(shared_daemon, "get", handle)
    assert len(origin.asked("/m/latest")) == 1
    assert hubctl(shared_daemon, "get", "--refresh", handle).returncode == 0
    assert len(origin.asked("/m/latest")) == 2


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("how", [{"HUBD_OFFLINE": "1"}, {}], ids=["variable", "option"])
def test_offline_fetches_nothing(
    shared_daemon: Daemon, gone: Daemon, origin: Origin, how: Mapping[str, str], running: bool
) -> None:
    handle = origin.serve("/m/1", Answer(ARCHIVE))
    done = hubctl(shared_daemon if running else gone, "get", *([] if how else ["--offline"]), handle, **how)
    assert (done.returncode, done.stdout) == (1, "")
    assert "[offline]" in done.stderr
    assert origin.asked("/m/1") == []


def test_paths_and_file_urls_are_answered_without_a_daemon(gone: Daemon, tmp_path: Path) -> None:
    module = tmp_path / "my module"
    module.mkdir()
    (module / "saved_model.pb").write_bytes(b"")
    done = hubctl(gone, "get", str(module), f"file://{tmp_path}/my%20module")
    assert (done.returncode, done.stdout) == (0, f"{module}\n{module}\n")
    nothing = hubctl(gone, "get", str(tmp_path / "nothing"))
    assert nothing.returncode == 1
    assert "[not-found]" in nothing.stderr


def test_somebody_elses_download_is_joined_and_said_to_be(daemon: Daemon, origin: Origin) -> None:
    handle, answer = gated(origin)
    with daemon.events(handle) as events:
        next(events)
        joining = begin(daemon, "get", handle)
        wait_until(daemon, lambda fetches: fetches[0]["waiters"] == 2)
        answer.gate.set()
        _, said = joining.communicate(timeout=SECONDS)
    assert joining.returncode == 0
    assert f"joined  {handle}  somebody else's download: " in said
    assert len(origin.asked("/m/1")) == 1


def test_without_a_daemon_an_old_copy_is_given_with_a_warning(tmp_path: Path, origin: Origin) -> None:
    handle = origin.serve("/m/latest", Answer(ARCHIVE))
    with Daemon(tmp_path, config='[network]\nrevalidate_after = "1ms"\n') as daemon:
        fetched = hubctl(daemon, "get", handle)
        daemon.kill()
        stale = hubctl(daemon, "get", handle)
        assert (stale.returncode, stale.stdout) == (0, fetched.stdout)
        assert f"hubctl: warning: {handle} may be out of date" in stale.stderr
        refused = hubctl(daemon, "get", "--refresh", handle, HUBD_TIMEOUT="0")
        assert (refused.returncode, refused.stdout) == (3, "")


def test_without_daemon_and_copy_the_exit_code_is_3(gone: Daemon) -> None:
    done = hubctl(gone, "get", "https://h.example/m/1", "https://h.example/m/2", HUBD_TIMEOUT="0")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.count("[daemon-unreachable]") == 1
    assert str(gone.socket) in done.stderr


# leaving


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_get_leaves_at_once_and_the_daemon_stops_the_fetch(
    daemon: Daemon, origin: Origin, number: signal.Signals, code: int
) -> None:
    handles = [gated(origin, f"/m/{version}")[0] for version in (1, 2, 3)]
    getting = begin(daemon, "get", *handles)
    wait_until(daemon, lambda fetches: len(fetches) == 3)
    getting.send_signal(number)
    out, said = getting.communicate(timeout=SECONDS)
    assert (getting.returncode, out) == (code, "")
    assert "Traceback" not in said
    wait_until(daemon, lambda fetches: not fetches)


def test_an_interrupted_prefetch_leaves_the_daemon_at_work(daemon: Daemon, origin: Origin) -> None:
    handle, answer = gated(origin)
    waiting = begin(daemon, "prefetch", "--wait", handle)
    # The daemon itself, and hubctl.
    wait_until(daemon, lambda fetches: bool(fetches) and fetches[0]["waiters"] >= 1)
    assert waiting.stderr is not None
    assert handle in waiting.stderr.readline()  # it waits, and says at what the fetch is
    waiting.send_signal(signal.SIGINT)
    _, said = waiting.communicate(timeout=SECONDS)
    assert waiting.returncode == 130
    assert "the daemon goes on fetching" in said
    answer.gate.set()
    wait_until(daemon, lambda fetches: not fetches)
    assert hubctl(daemon, "get", "--offline", handle).returncode == 0


@pytest.mark.parametrize("arguments", [["ls"], ["ls", "-q"], ["ls", "--json"], ["status"]], ids=" ".join)
def test_a_reader_that_goes_away_ends_the_command_quietly(
    shared_daemon: Daemon, origin: Origin, arguments: list[str]
) -> None:
    hubctl(shared_daemon, "get", origin.serve("/m/1", Answer(ARCHIVE)))
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*COMMAND, *arguments],
        env=environ_for(shared_daemon),
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=SECONDS,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


# a terminal


def test_a_terminal_shows_a_bar_and_in_the_end_the_path(daemon: Daemon, origin: Origin) -> None:
    handle, answer = gated(origin)
    with Terminal(environ_for(daemon), ["get", handle]) as terminal:
        terminal.read_until(" of 6.0 MB")
        answer.gate.set()
        screen = terminal.read_until(None)
        assert terminal.process.wait(SECONDS) == 0
    assert "─" in screen
    assert "%" in screen
    assert "\x1b[32mfetched" in screen
    assert screen.rindex(SHOW_CURSOR) > screen.rindex(" of 6.0 MB")
    assert screen.rstrip().endswith("/module")


def test_ctrl_c_gives_the_terminal_back(daemon: Daemon, origin: Origin) -> None:
    handle, _ = gated(origin)
    with Terminal(environ_for(daemon), ["get", handle]) as terminal:
        terminal.read_until(" of 6.0 MB")
        terminal.process.send_signal(signal.SIGINT)
        screen = terminal.read_until(None)
        assert terminal.process.wait(SECONDS) == 130
    assert screen.rindex(SHOW_CURSOR) > screen.rindex(" of 6.0 MB")
    assert "Traceback" not in screen


COLOUR = re.compile("\x1b\\[[0-9;]*(?<![0-9])[349][0-7]m")


def test_no_color_is_respected(shared_daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(ARCHIVE))
    for arguments in (["get", handle], ["status"], ["ls"], ["doctor"]):
        with Terminal(environ_for(shared_daemon, NO_COLOR="1"), arguments) as terminal:
            assert not COLOUR.search(terminal.read_until(None)), arguments
    with Terminal(environ_for(shared_daemon), ["status"]) as terminal:
        assert COLOUR.search(terminal.read_until(None))


def test_a_dumb_terminal_gets_plain_lines(shared_daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(ARCHIVE))
    for arguments in (["get", handle], ["status"], ["top", "--once"], ["help"]):
        with Terminal(environ_for(shared_daemon, TERM="dumb"), arguments) as terminal:
            assert "\x1b" not in terminal.read_until(None), arguments


# ls


def test_ls_in_a_pipe_is_a_plain_table_with_whole_handles(daemon: Daemon, origin: Origin) -> None:
    long = origin.serve("/" + "x" * 200 + "/1", Answer(ARCHIVE))
    short = origin.serve("/m/1", Answer(ARCHIVE))
    assert hubctl(daemon, "get", long, short).returncode == 0
    done = hubctl(daemon, "ls", COLUMNS="40")
    header, first, second = done.stdout.splitlines()
    assert header.split() == ["HANDLE", "SIZE", "LAST", "USED", "FETCHED", "FLAGS", "DIGEST"]
    assert [first.split()[0], second.split()[0]] == [short, long]
    assert first.split()[-1] == hashlib.sha256(ARCHIVE).hexdigest()[:12]
    assert hubctl(daemon, "ls", "-q", "--limit", "1").stdout == short + "\n"


def test_ls_json_is_the_apis_modules(daemon: Daemon, origin: Origin) -> None:
    hubctl(daemon, "get", origin.serve("/m/1", Answer(ARCHIVE)))
    modules = daemon.request("GET", "/v1/modules")[1]["modules"]
    assert json.loads(hubctl(daemon, "ls", "--json").stdout) == {"modules": modules}


def test_ls_of_an_empty_cache_says_so_on_stderr(daemon: Daemon) -> None:
    done = hubctl(daemon, "ls")
    assert (done.returncode, done.stdout) == (0, "")
    assert "the cache is empty" in done.stderr


# status


def test_status_tells_that_all_is_well_and_what_is_fetched(daemon: Daemon, origin: Origin) -> None:
    handle, _ = gated(origin)
    with daemon.events(handle) as events:
        next(event for event in events if event["fetch"]["received_bytes"])
        plain = hubctl(daemon, "status")
        document = json.loads(hubctl(daemon, "status", "--json").stdout)
        with Terminal(environ_for(daemon), ["status"]) as terminal:
            screen = terminal.read_until(None)
    assert plain.stdout.startswith("hubd 0.")
    assert plain.stdout.splitlines()[0].endswith(" is well")
    assert f"pid {daemon.pid}" in plain.stdout
    assert str(daemon.cache) in plain.stdout
    assert f"transferring  {handle}" in plain.stdout
    assert document["status"]["pid"] == daemon.pid
    assert document["fetches"][0]["handle"] == handle
    assert "─" in screen


def test_status_without_a_daemon_starts_none_and_names_the_cache(gone: Daemon, tmp_path: Path) -> None:
    cache = tmp_path / "another"
    done = hubctl(gone, "status", HUBD_SOCKET="", TFHUB_CACHE_DIR=str(cache), HUBD_AUTOSTART="1")
    assert (done.returncode, done.stdout) == (3, "")
    assert str(cache) in done.stderr
    assert "hubctl get" in done.stderr
    assert not cache.exists()


def test_status_of_a_stopped_daemon_does_not_wait_for_it(gone: Daemon) -> None:
    started = time.monotonic()
    done = hubctl(gone, "status", HUBD_TIMEOUT="")
    assert done.returncode == 3
    assert time.monotonic() - started < 20  # a daemon that restarts is waited for 30 s elsewhere


def test_status_of_a_daemon_that_hangs_says_so_within_seconds(shared_daemon: Daemon) -> None:
    shared_daemon.signal(signal.SIGSTOP)
    try:
        started = time.monotonic()
        done = hubctl(shared_daemon, "status")
        took_seconds = time.monotonic() - started
    finally:
        shared_daemon.signal(signal.SIGCONT)
    assert (done.returncode, done.stdout) == (3, "")
    assert f"{shared_daemon.socket} takes connections, but has said nothing" in done.stderr
    assert took_seconds < 20  # a daemon at work may be silent for 30 s elsewhere


@pytest.mark.parametrize("arguments", [["ls"], ["prune", "--older-than", "1d", "--dry-run"]], ids=" ".join)
def test_a_daemon_that_hangs_is_waited_for_aloud_and_answers_when_it_goes_on(
    shared_daemon: Daemon, arguments: list[str]
) -> None:
    shared_daemon.signal(signal.SIGSTOP)
    try:
        process = begin(shared_daemon, *arguments)
        assert process.stderr is not None
        told = process.stderr.readline()
    finally:
        shared_daemon.signal(signal.SIGCONT)
    said, more = process.communicate(timeout=SECONDS)[1], "has said nothing for"
    assert told == f"the daemon at {shared_daemon.socket} {more} 3 s; waiting for it (up to 30 s)\n"
    assert process.returncode == 0
    assert more not in said


# prefetch


def test_prefetch_returns_with_the_id_of_a_fetch_or_cached(daemon: Daemon, origin: Origin) -> None:
    there = origin.serve("/m/1", Answer(ARCHIVE))
    hubctl(daemon, "get", there)
    coming, _ = gated(origin, "/m/2")
    done = hubctl(daemon, "prefetch", there, coming)
    (fetch,) = daemon.request("GET", "/v1/fetches")[1]["fetches"]
    assert done.returncode == 0
    assert [line.split() for line in done.stdout.splitlines()] == [["cached", there], [fetch["id"], coming]]


@pytest.mark.parametrize("command", [["prefetch"], ["prefetch", "--wait"], ["pin"]], ids=" ".join)
def test_what_brings_modules_ahead_keeps_to_the_variable_too(
    shared_daemon: Daemon, origin: Origin, command: list[str]
) -> None:
    there, missing = origin.serve("/there/1", Answer(ARCHIVE)), origin.serve("/missing/1", Answer(ARCHIVE))
    shared_daemon.resolve(there)
    done = hubctl(shared_daemon, *command, there, missing, HUBD_OFFLINE="1")
    assert (done.returncode, origin.asked("/missing/1")) == (1, [])
    assert "[offline]" in done.stderr
    assert there in done.stdout


def test_prefetch_wait_ends_when_all_are_there_and_lists_failures(shared_daemon: Daemon, origin: Origin) -> None:
    good = origin.serve("/m/1", Answer(ARCHIVE))
    missing = origin.url("/none/1")
    done = hubctl(shared_daemon, "prefetch", "--wait", good, missing)
    assert done.returncode == 4
    assert [line.split() for line in done.stdout.splitlines()] == [["fetched", good], ["failed", missing]]
    assert "[upstream-not-found]" in done.stderr
    mixed = hubctl(shared_daemon, "prefetch", "--wait", "--json", good, missing, "some/path")
    assert mixed.returncode == 1
    outcomes = {row["handle"]: row["outcome"] for row in json.loads(mixed.stdout)["fetches"]}
    assert outcomes == {good: "cached", missing: "failed", "some/path": "failed"}
    assert {json.loads(line)["code"] for line in mixed.stderr.splitlines()} == {"upstream-not-found", "handle-invalid"}

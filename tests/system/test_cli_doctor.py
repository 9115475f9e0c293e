"""`hubctl doctor` against real daemons: one that is well, one that hangs, none, and somebody else's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support import as_user
from tests.support.daemon import Daemon
from tests.support.hubctl import COMMAND, SECONDS, Terminal, environ_for, environ_of, hubctl
from tests.support.service import Service
from tests.support.uids import ALICE, BOB, directory_of, needs_root
from tests.support.waiting import wait_until

#: What is this machine's own affair, and TensorFlow's, which takes seconds to open.
OTHERS = ("disk", "inotify", "files", "clock", "proxy", "tensorflow")


def examined(done: subprocess.CompletedProcess[str]) -> dict[str, list[Any]]:
    """The states by check, of what the daemon and its cache decide."""
    found: dict[str, list[Any]] = {}
    for one in json.loads(done.stdout)["checks"]:
        if one["check"] not in OTHERS:
            found.setdefault(one["check"], []).append(one["state"])
    return found


def states(done: subprocess.CompletedProcess[str]) -> set[str]:
    return {state for found in examined(done).values() for state in found}


def test_a_daemon_that_is_well_is_told_to_be(daemon: Daemon) -> None:
    done = hubctl(daemon, "doctor", "--json", HUBD_AUTOSTART="")
    assert states(done) == {"ok"}, done.stdout
    assert {"socket", "answer", "version", "cache", "file system", "leases", "python"} <= set(examined(done))
    with Terminal(environ_for(daemon, HUBD_AUTOSTART=""), ["doctor"]) as terminal:
        screen = terminal.read_until(None)
    assert "\x1b[32mok\x1b[0m" in screen
    assert screen.splitlines()[-1].startswith("all ")


def test_a_daemon_that_hangs_fails_within_seconds_and_spoils_no_other_check(shared_daemon: Daemon) -> None:
    shared_daemon.signal(signal.SIGSTOP)
    try:
        done = hubctl(shared_daemon, "doctor", "--json")
    finally:
        shared_daemon.signal(signal.SIGCONT)
    assert done.returncode == 1
    found = examined(done)
    assert (found["answer"], found["socket"], found["python"]) == (["fail"], ["ok"], ["ok"])


def test_without_a_daemon_it_starts_none_and_says_who_would(tmp_path: Path) -> None:
    environ = environ_of(tmp_path / "none", tmp_path, HUBD_SOCKET="", HUBD_AUTOSTART="", HUBD_TIMEOUT="")
    environ |= {"TFHUB_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run([*COMMAND, "doctor"], env=environ, capture_output=True, text=True, timeout=SECONDS)
    assert "none runs; the first command that needs it starts it" in done.stdout
    assert f"{tmp_path / 'cache'} will be made when it is needed" in done.stdout
    assert not (tmp_path / "cache").exists()


@needs_root
def test_an_unprivileged_user_examines_somebody_elses_service() -> None:
    with directory_of(ALICE) as directory, Service(Path(directory)) as service, directory_of(BOB) as home:
        environ = environ_of(service.socket, Path(home), HUBD_AUTOSTART="", HUBD_TIMEOUT="")
        command = as_user.command(BOB, *COMMAND, "doctor", "--json")
        done = subprocess.run(
            command, env=environ, cwd=as_user.REPOSITORY, capture_output=True, text=True, timeout=SECONDS
        )
        assert states(done) == {"ok"}, done.stdout + done.stderr
        os.chmod(service.socket.parent, 0o777)
        done = subprocess.run(
            command, env=environ, cwd=as_user.REPOSITORY, capture_output=True, text=True, timeout=SECONDS
        )
    assert done.returncode == 1
    assert examined(done)["socket"] == ["fail"]


def test_a_configuration_that_was_not_taken_is_told_once_with_what_mends_it(daemon: Daemon) -> None:
    good = daemon.config.read_text()
    daemon.config.write_text(good + '\n[cahce]\ndir = "/x"\n')
    wait_until(lambda: daemon.request("GET", "/v1/status")[1]["config"]["problem"] is not None)
    told = hubctl(daemon, "status").stdout
    assert told.splitlines()[0].endswith("works, with 1 thing to mend")
    assert told.count("cahce") == 1
    assert f"`hubd check-config {daemon.config}`" in told
    done = hubctl(daemon, "doctor", "--json", HUBD_AUTOSTART="")
    assert (done.returncode, "warn" in examined(done)["daemon"]) == (0, True)
    daemon.config.write_text(good)
    wait_until(lambda: daemon.request("GET", "/v1/status")[1]["config"]["problem"] is None)
    assert hubctl(daemon, "status").stdout.splitlines()[0].endswith(" is well")


@pytest.mark.parametrize("name", ["HUBD_TIMEOUT", "HUBD_TRUST_UID"])
def test_a_variable_that_is_wrong_is_named_and_exits_1(shared_daemon: Daemon, name: str) -> None:
    done = hubctl(shared_daemon, "doctor", **{name: "x"})
    assert done.returncode == 1
    assert f"{name} is 'x'" in done.stdout
    assert "Traceback" not in done.stderr

"""The units say what the service promises, and agree with the code."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from hubclient.contract import places
from hubd import applying, config, service
from hubd.__main__ import main

UNITS = Path(__file__).parents[2] / "systemd"

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None and os.environ.get("CI") != "true", reason="systemd-analyze is missing"
)


def settings(name: str) -> dict[str, list[str]]:
    """All values of each key of a unit, in their order."""
    found: dict[str, list[str]] = {}
    for line in (UNITS / name).read_text().splitlines():
        if line and line[0] not in "#[":
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


SERVICE = settings("hubd.service")
SOCKET = settings("hubd.socket")


def run(*command: str) -> str:
    """What it says, both ways, when it ends well."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
    return done.stdout.strip()


@needs_systemd
def test_systemd_has_nothing_to_say_against_the_units(tmp_path: Path) -> None:
    assert main(["install", "--system", "--prefix", str(tmp_path)]) == 0
    units = tmp_path / "lib/systemd/system"
    assert run("systemd-analyze", "verify", "--man=no", str(units / "hubd.service"), str(units / "hubd.socket")) == ""


@needs_systemd
def test_the_service_is_hardened_but_for_what_would_make_it_useless() -> None:
    said = run("systemd-analyze", "security", "--offline=true", "--no-pager", str(UNITS / "hubd.service"))
    found = re.search(r"Overall exposure level for hubd.service: ([\d.]+)", said)
    assert found is not None, said
    assert float(found[1]) <= 1.4
    # Both would lower the figure. The first keeps the cache in a directory that users cannot enter; in the second, the
    # kernel calls every user who asks 65534, and nobody is an administrator, or could be told from others.
    assert not {"DynamicUser", "PrivateUsers"} & SERVICE.keys()
    # The boot's identity (/proc/sys/kernel/random/boot_id) is in daemon.lock.
    assert "ProcSubset" not in SERVICE


def test_neither_a_stop_nor_a_crash_loop_takes_the_socket_away() -> None:
    assert SERVICE["RuntimeDirectoryPreserve"] == ["yes"]
    assert SERVICE["StartLimitIntervalSec"] == ["0"]
    assert SERVICE["Restart"] == ["always"]
    assert SERVICE["RestartSec"] == ["2s"]
    assert SOCKET["TriggerLimitIntervalSec"] == ["0"]


def test_systemd_waits_for_readiness_and_for_signs_of_life() -> None:
    assert SERVICE["Type"] == ["notify"]
    assert SERVICE["WatchdogSec"] == ["60s"]
    assert SERVICE["ExecReload"] == ['/bin/sh -c "kill -HUP $MAINPID"']
    assert SERVICE["Requires"] == ["hubd.socket"]


def test_everybody_may_connect_and_nobody_else_may_make_the_socket() -> None:
    assert SOCKET["ListenStream"] == [places.SERVICE_SOCKET]
    assert SOCKET["SocketMode"] == ["0666"]
    assert SOCKET["DirectoryMode"] == SERVICE["RuntimeDirectoryMode"] == SERVICE["CacheDirectoryMode"] == ["0755"]


def test_the_user_and_the_directories_are_those_that_the_code_knows() -> None:
    assert SERVICE["User"] == SERVICE["Group"] == SOCKET["SocketUser"] == SOCKET["SocketGroup"] == ["hubd"]
    assert f"/run/{SERVICE['RuntimeDirectory'][0]}" == places.SERVICE_DIR
    assert f"/var/cache/{SERVICE['CacheDirectory'][0]}" == places.SERVICE_CACHE
    assert f"d {places.SERVICE_DIR} 0755 hubd hubd -" in (UNITS / "hubd.tmpfiles").read_text()
    for directory in (os.path.dirname(config.SERVICE_FILE), config.PREFETCH_DIR):
        assert f"d {directory} 0755 root root -" in (UNITS / "hubd.tmpfiles").read_text()


def test_systemd_leaves_the_daemon_the_time_and_the_files_that_it_counts_on() -> None:
    assert float(SERVICE["TimeoutStopSec"][0].removesuffix("s")) > 2 * service.STOP_SECONDS
    assert int(SERVICE["LimitNOFILE"][0]) == applying.MAX_FILES


def test_what_the_daemon_does_beside_serving_is_not_forbidden() -> None:
    """Threads that check are nice, the child limits itself; the names of servers are looked up."""
    assert SERVICE["SystemCallFilter"] == ["@system-service", "~@privileged"]
    assert SERVICE["RestrictAddressFamilies"] == ["AF_UNIX AF_INET AF_INET6"]


@needs_systemd
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a system's users")
def test_the_user_can_be_made_who_cannot_log_in_and_the_directories_too(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    run("systemd-sysusers", f"--root={tmp_path}", str(UNITS / "hubd.sysusers"))
    [line] = (tmp_path / "etc/passwd").read_text().splitlines()
    name, _, uid, gid, _, home, shell = line.split(":")
    assert (name, home, shell) == ("hubd", places.SERVICE_CACHE, "/usr/sbin/nologin")
    run("systemd-tmpfiles", "--create", f"--root={tmp_path}", str(UNITS / "hubd.tmpfiles"))
    status = (tmp_path / "run/hubd").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (int(uid), int(gid), 0o755)

"""Starting and stopping: one daemon per cache and socket, and errors that say what is in the way."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.archives import MODULE, archive
from tests.support.daemon import Daemon
from tests.support.origin import Answer, Origin
from tests.support.waiting import wait_until


def hubd(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """A run that is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "hubd", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, **environ},
    )


def test_a_second_daemon_on_the_cache_names_the_first(daemon: Daemon, tmp_path: Path) -> None:
    second = hubd("run", "--user", "--cache-dir", str(daemon.cache), "--socket", str(tmp_path / "other.sock"))
    assert second.returncode == 1
    assert f"{daemon.pid}" in second.stderr
    assert str(daemon.socket) in second.stderr
    assert len(second.stderr.splitlines()) == 1
    assert daemon.request("GET", "/v1/status")[0] == 200


def test_a_second_daemon_on_the_socket_names_the_first(daemon: Daemon, tmp_path: Path) -> None:
    second = hubd("run", "--user", "--cache-dir", str(tmp_path / "other"), "--socket", str(daemon.socket))
    assert second.returncode == 1
    assert f"pid {daemon.pid}" in second.stderr
    assert daemon.request("GET", "/v1/status")[0] == 200


def test_a_stale_socket_file_is_replaced(daemon: Daemon) -> None:
    daemon.kill()
    assert daemon.socket.exists()
    daemon.start()
    assert daemon.request("GET", "/v1/status")[0] == 200


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("data")
    run = hubd("run", "--user", "--cache-dir", str(tmp_path / "cache"), "--socket", str(precious))
    assert run.returncode == 1
    assert "no socket" in run.stderr
    assert precious.read_text() == "data"


def test_a_socket_path_that_is_too_long_is_told(tmp_path: Path) -> None:
    run = hubd("run", "--user", "--cache-dir", str(tmp_path / "cache"), "--socket", "/tmp/" + "x" * 120)
    assert run.returncode == 1
    assert "107 bytes" in run.stderr


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o775])
def test_a_service_refuses_a_socket_directory_that_others_can_write(mode: int, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    directory.mkdir()
    directory.chmod(mode)
    run = hubd("run", "--cache-dir", str(tmp_path / "cache"), "--socket", str(directory / "hubd.sock"))
    assert run.returncode == 1
    assert f"others can write to {directory} (mode {mode:04o})" in run.stderr
    assert os.listdir(directory) == []


def test_a_directory_that_holds_other_things_of_these_names_is_not_adopted(tmp_path: Path) -> None:
    (tmp_path / "cache" / "trees").mkdir(parents=True)
    run = hubd("run", "--user", "--cache-dir", str(tmp_path / "cache"), "--socket", str(tmp_path / "s"))
    assert run.returncode == 1
    assert "trees" in run.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_exit_code_0_and_without_a_trace(daemon: Daemon, number: signal.Signals) -> None:
    daemon.signal(number)
    assert daemon.wait() == 0
    assert not daemon.socket.exists()
    assert os.readlink(f"{daemon.socket}.cache") == str(daemon.cache), "clients still find what is cached"
    assert "Traceback" not in daemon.log.read_text()


def test_it_ends_when_its_socket_is_no_longer_its_own(daemon: Daemon) -> None:
    daemon.socket.unlink()
    assert daemon.wait() == 0


def test_it_does_not_remove_the_socket_of_another(daemon: Daemon) -> None:
    daemon.socket.unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(str(daemon.socket))
        assert daemon.wait() == 0
        assert daemon.socket.exists()


def test_it_ends_after_its_idle_time(tmp_path: Path) -> None:
    with Daemon(tmp_path, config='[api]\nidle_exit = "100ms"\n') as daemon:
        assert daemon.wait() == 0
        assert "idle" in daemon.log.read_text()


def test_short_uses_keep_it_from_being_idle(tmp_path: Path) -> None:
    with Daemon(tmp_path, config='[api]\nidle_exit = "1s"\n') as daemon:
        while daemon.request("GET", "/v1/status")[1]["uptime_seconds"] < 3:  # it looks every 2 s
            pass
        assert daemon.stop() == 0
        assert "idle" not in daemon.log.read_text()


def test_check_config_says_ok_or_what_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('[network]\nstall_timeout = "5s"\n')
    good = hubd("check-config", str(file))
    assert (good.returncode, good.stdout) == (0, f"{file}: ok\n")
    file.write_text("[network]\nstal_timeout = 5\n")
    bad = hubd("check-config", str(file))
    assert bad.returncode == 2
    assert 'did you mean "network.stall_timeout"' in bad.stderr


def test_a_bad_config_stops_the_start(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("[cache\n")
    run = hubd("run", "--user", HUBD_CONFIG=str(file), TFHUB_CACHE_DIR=str(tmp_path / "cache"))
    assert run.returncode == 2
    assert str(file) in run.stderr
    assert not (tmp_path / "cache").exists()


def test_it_runs_with_stderr_closed(tmp_path: Path) -> None:
    with Daemon(tmp_path, wrapper=["sh", "-c", 'exec "$@" 2>&-', "sh"]) as daemon:
        assert daemon.request("GET", "/v1/status")[0] == 200
        assert os.readlink(f"/proc/{daemon.pid}/fd/2") == os.devnull
        assert daemon.stop() == 0


def test_the_help_and_version_answer() -> None:
    assert "run" in hubd("--help").stdout
    assert "--cache-dir" in hubd("run", "--help").stdout
    assert hubd("--version").stdout.startswith("hubd 0.")
    assert hubd("run", "--wrong").returncode == 2


def test_status_names_the_directories_that_are_gone_and_a_restart_makes_them_anew(
    daemon: Daemon, origin: Origin
) -> None:
    handle = origin.serve("/m/1", Answer(archive(MODULE)))
    daemon.resolve(handle)
    wait_until(lambda: not os.listdir(daemon.cache / "trash"))  # the daemon empties it, and would race with rmtree
    for name in ("tfhub", "trash"):
        shutil.rmtree(daemon.cache / name)
    status, answer = daemon.request("GET", "/v1/status")
    assert status == 200
    assert all(
        any(str(daemon.cache / name) in warning for warning in answer["warnings"]) for name in ("tfhub", "trash")
    )
    assert daemon.resolve(handle)[1]["outcome"] == "hit"
    daemon.stop()
    daemon.start()
    assert daemon.request("GET", "/v1/status")[1]["warnings"] == []
    assert daemon.resolve(handle)[1]["outcome"] == "hit"
    wait_until(lambda: len(os.listdir(daemon.cache / "tfhub")) == 1)

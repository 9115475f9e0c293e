"""When no daemon is started, and what the user is told then. That one is started is tested with a real one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import hubclient
from hubclient import finding
from hubclient.contract.errors import DaemonUnreachable
from hubclient.daemon import Daemon
from hubclient.finding import Place
from tests.support.handmade_cache import HandmadeCache

CLIENT = Path(hubclient.__file__).parent.parent


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {
        "HOME": str(tmp_path),
        "TFHUB_CACHE_DIR": str(tmp_path / "cache"),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "PATH": os.defpath,
        "HUBD_TIMEOUT": "600",
    }


def reach(environ: dict[str, str]) -> None:
    Daemon(finding.user_place(environ), environ=environ).connect()


def test_autostart_off_and_no_socket_fails_at_once_and_says_what_to_do(environ: dict[str, str]) -> None:
    environ["HUBD_AUTOSTART"] = "0"
    with pytest.raises(DaemonUnreachable, match=r"HUBD_AUTOSTART=0.*hubd run --user"):
        reach(environ)


def test_a_daemon_that_is_just_away_is_waited_for_though_autostart_is_off(environ: dict[str, str]) -> None:
    environ |= {"HUBD_AUTOSTART": "0", "HUBD_TIMEOUT": "0.1"}
    place = finding.user_place(environ)
    os.makedirs(os.path.dirname(place.socket), mode=0o700)
    Path(place.socket).touch()
    with pytest.raises(DaemonUnreachable, match="no daemon answers on"):
        reach(environ)


def test_a_socket_path_that_would_be_too_long_is_told_with_the_remedy(tmp_path: Path, environ: dict[str, str]) -> None:
    environ["TFHUB_CACHE_DIR"] = str(tmp_path / ("x" * 100))
    with pytest.raises(DaemonUnreachable, match=r"107 bytes.*XDG_RUNTIME_DIR"):
        reach(environ)


def test_a_cache_that_others_can_write_to_gets_no_daemon(tmp_path: Path, environ: dict[str, str]) -> None:
    os.chmod(HandmadeCache(tmp_path / "cache").root, 0o777)
    with pytest.raises(hubclient.CacheUntrusted, match="chmod go-w"):
        reach(environ)


def test_where_a_service_is_meant_none_is_started(tmp_path: Path, environ: dict[str, str]) -> None:
    place = Place(str(tmp_path / "hubd.sock"), None, "service")
    with pytest.raises(DaemonUnreachable, match="systemctl status hubd"):
        Daemon(place, environ=environ, timeout_seconds=0).connect()
    assert not (tmp_path / "state").exists()


def test_a_log_that_cannot_be_written_is_told_with_the_remedy(tmp_path: Path, environ: dict[str, str]) -> None:
    (tmp_path / "bin").mkdir()
    hubd = tmp_path / "bin" / "hubd"
    hubd.write_text("#!/bin/sh\n")
    hubd.chmod(0o755)
    environ["PATH"] = str(tmp_path / "bin")
    (tmp_path / "state").write_text("a file is in the way")
    with pytest.raises(DaemonUnreachable, match="XDG_STATE_HOME"):
        reach(environ)


CODE = """
import hubclient
try:
    hubclient.resolve("https://example.org/m/1")
except hubclient.DaemonUnreachable as error:
    print(error)
"""


def run_without_hubd(environ: dict[str, str]) -> str:
    """In an interpreter that sees no installed packages."""
    environ |= {"PYTHONPATH": str(CLIENT)}
    command = [sys.executable, "-S", "-c", CODE]
    return subprocess.run(command, env=environ, check=True, capture_output=True, text=True, cwd="/").stdout


def test_a_missing_hubd_is_told_with_the_remedy(tmp_path: Path, environ: dict[str, str]) -> None:
    environ["PATH"] = str(tmp_path)
    assert "pip install tf-hubd" in run_without_hubd(environ)


def hubd_on_the_path(tmp_path: Path, environ: dict[str, str], script: str) -> None:
    (tmp_path / "hubd").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "hubd").chmod(0o755)
    environ["PATH"] = f"{tmp_path}:{os.defpath}"


def test_a_daemon_that_ends_at_once_is_told_with_its_last_words(tmp_path: Path, environ: dict[str, str]) -> None:
    hubd_on_the_path(tmp_path, environ, "echo out; echo 'hubd: the moon is full' >&2; exit 1")
    told = run_without_hubd(environ)
    assert "out / hubd: the moon is full" in told
    assert str(tmp_path / "state" / "hubd" / "hubd.log") in told


def test_only_what_this_daemon_wrote_is_told(tmp_path: Path, environ: dict[str, str]) -> None:
    hubd_on_the_path(tmp_path, environ, "echo 'first try'")
    run_without_hubd(environ)
    hubd_on_the_path(tmp_path, environ, "exit 1")
    assert "first try" not in run_without_hubd(environ)


def test_the_daemon_is_started_in_an_environment_of_its_own(tmp_path: Path, environ: dict[str, str]) -> None:
    hubd_on_the_path(tmp_path, environ, f'{{ pwd; echo "$@"; id -u; umask; env; cat; }} > {tmp_path}/seen')
    environ |= {"LD_PRELOAD": "", "LD_LIBRARY_PATH": "/nowhere", "KEPT": "yes"}
    environ |= {"KAGGLE_API_TOKEN": "secret"}
    run_without_hubd(environ)
    seen = (tmp_path / "seen").read_text()
    assert seen.startswith(f"/\nrun --user --cache-dir {tmp_path}/cache\n{os.geteuid()}\n")
    assert "KEPT=yes" in seen
    assert "PYTHONPATH" not in seen
    assert "KAGGLE_" not in seen
    assert "\nLD_" not in seen


def test_the_log_is_the_users_alone(tmp_path: Path, environ: dict[str, str]) -> None:
    hubd_on_the_path(tmp_path, environ, "exit 1")
    run_without_hubd(environ)
    log = tmp_path / "state" / "hubd" / "hubd.log"
    assert (log.parent.stat().st_mode & 0o777, log.stat().st_mode & 0o777) == (0o700, 0o600)


def test_a_log_that_has_grown_large_is_put_aside(tmp_path: Path, environ: dict[str, str]) -> None:
    hubd_on_the_path(tmp_path, environ, "exit 1")
    log = tmp_path / "state" / "hubd" / "hubd.log"
    log.parent.mkdir(parents=True)
    with log.open("wb") as file:
        file.truncate(11_000_000)
    run_without_hubd(environ)
    assert log.stat().st_size == 0
    assert log.with_name("hubd.log.1").stat().st_size == 11_000_000

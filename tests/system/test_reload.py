"""A configuration that changes while the daemon serves: it holds from then on, and nothing under way suffers."""

from __future__ import annotations

import os
import pty
import random
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hubclient.contract import handles
from tests.support.archives import archive
from tests.support.daemon import Daemon
from tests.support.origin import Answer, Origin
from tests.support.waiting import wait_until

ARCHIVE = archive()
CACHE = '[cache]\nmin_free = "0B"\n'


def config_of(daemon: Daemon) -> dict[str, Any]:
    config: dict[str, Any] = daemon.request("GET", "/v1/status")[1]["config"]
    return config


def reload(daemon: Daemon, text: str) -> dict[str, Any]:
    """Saves the file, asks for a reload, and waits until the daemon has looked at it."""
    _reload_now(daemon)  # a daemon that has just started looks once by itself, and would count for the one asked for
    daemon.config.write_text(text)
    _reload_now(daemon)
    return config_of(daemon)


def _reload_now(daemon: Daemon) -> None:
    before = daemon.log.read_text().count("configuration")
    daemon.signal(signal.SIGHUP)
    wait_until(lambda: daemon.log.read_text().count("configuration") > before)


def test_saving_the_file_is_enough(daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(ARCHIVE))
    daemon.config.write_text(f"{CACHE}[network]\nallow_http = false\n")
    wait_until(lambda: "changed: network.allow_http" in daemon.log.read_text())
    assert daemon.resolve(handle)[1]["code"] == "handle-forbidden"
    assert config_of(daemon)["problem"] is None


def test_a_signal_is_enough(daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(ARCHIVE))
    assert reload(daemon, f"{CACHE}[limits]\nfiles = 1\n")["file"] == str(daemon.config)
    assert daemon.resolve(handle)[1]["code"] == "archive-too-large"


def test_a_bad_file_keeps_the_old_settings_and_is_told_everywhere(daemon: Daemon, origin: Origin) -> None:
    config = reload(daemon, "[network]\nstal_timeout = 1\n")
    assert 'unknown key "network.stal_timeout"' in config["problem"]
    warnings = daemon.request("GET", "/v1/status")[1]["warnings"]
    assert any("the configuration was not taken" in warning for warning in warnings)
    assert "ERROR hubd.reload: the configuration was not taken" in daemon.log.read_text()
    assert daemon.resolve(origin.serve("/m/1", Answer(ARCHIVE)))[1]["outcome"] == "fetched"
    assert reload(daemon, CACHE)["problem"] is None
    assert daemon.request("GET", "/v1/status")[1]["warnings"] == []


def test_files_that_it_names_are_looked_at_before_anything_changes(daemon: Daemon, origin: Origin) -> None:
    config = reload(daemon, f'{CACHE}[network]\nca_bundle = "/nowhere/ca.pem"\nallow_http = false\n')
    assert "network.ca_bundle: /nowhere/ca.pem cannot be read" in config["problem"]
    assert daemon.resolve(origin.serve("/m/1", Answer(ARCHIVE)))[0] == 200


def test_what_takes_a_restart_is_named(daemon: Daemon, tmp_path: Path) -> None:
    assert reload(daemon, f"{CACHE}allow_network_filesystem = true\n")["restart_needed"] == [
        "cache.allow_network_filesystem"
    ]
    assert "but takes a restart" in daemon.log.read_text()
    assert reload(daemon, f'{CACHE}dir = "{tmp_path}/other"\n')["restart_needed"] == [], "--cache-dir says where it is"


def test_a_fetch_under_way_goes_on_by_the_settings_that_it_began_with(daemon: Daemon, origin: Origin) -> None:
    answer = Answer(ARCHIVE, gate_after_bytes=10)
    slow, other = origin.serve("/slow/1", answer), origin.serve("/other/1", Answer(ARCHIVE))
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(daemon.resolve, slow)
        wait_until(lambda: [fetch["state"] for fetch in fetches(daemon)] == ["transferring"])
        reload(daemon, f"{CACHE}[network]\noffline = true\n")
        assert daemon.resolve(other)[1]["code"] == "offline"
        answer.gate.set()
        assert asking.result()[1]["outcome"] == "fetched"
    assert daemon.stop() == 0


def test_who_waits_for_a_turn_gets_one_when_there_are_more(tmp_path: Path, origin: Origin) -> None:
    with Daemon(tmp_path, config="[network]\nconcurrent_fetches = 1\n") as daemon, ThreadPoolExecutor(6) as pool:
        slow = [Answer(ARCHIVE, gate_after_bytes=10) for _ in range(6)]
        urls = [origin.serve(f"/slow{number}/1", answer) for number, answer in enumerate(slow)]
        asking = [pool.submit(daemon.resolve, url) for url in urls]
        wait_until(lambda: states(daemon) == ["queued"] * 5 + ["transferring"])
        reload(daemon, f"{CACHE}[network]\nconcurrent_fetches = 6\n")
        wait_until(lambda: states(daemon) == ["transferring"] * 6)
        reload(daemon, f"{CACHE}[network]\nconcurrent_fetches = 1\n")
        assert states(daemon) == ["transferring"] * 6
        for answer in slow:
            answer.gate.set()
        assert [future.result()[0] for future in asking] == [200] * 6


def test_a_smaller_cache_takes_no_larger_module(daemon: Daemon, origin: Origin) -> None:
    content = {"saved_model.pb": b"\x08\x01\x12\x00", "assets/a": random.Random(1).randbytes(300_000)}
    handle = origin.serve("/m/1", Answer(archive(content)))
    reload(daemon, f'{CACHE}max_size = "200KB"\n')
    assert daemon.request("GET", "/v1/status")[1]["cache"]["max_size_bytes"] == 200_000
    assert daemon.resolve(handle)[1]["code"] == "archive-too-large"
    reload(daemon, CACHE)
    assert daemon.resolve(handle)[0] == 200


def test_clients_ask_again_sooner_when_the_settings_say_so(daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m", Answer(ARCHIVE, etag='"a"'))
    daemon.resolve(handle)
    view = daemon.cache / "handles" / handles.key(handles.canonical(handle))
    before = os.lstat(view).st_mtime
    reload(daemon, f'{CACHE}[network]\nrevalidate_after = "1h"\n')
    wait_until(lambda: os.lstat(view).st_mtime == before - 23 * 3600)


def test_the_end_of_its_terminal_ends_a_daemon_and_a_signal_alone_does_not(tmp_path: Path) -> None:
    ours, terminal = pty.openpty()
    log, socket = tmp_path / "log", tmp_path / "hubd.sock"
    daemon = [sys.executable, "-P", "-m", "hubd", "run", "--user"]
    with log.open("wb") as opened:
        running = subprocess.Popen(
            [sys.executable, "-c", _WITH_TERMINAL, *daemon, "--cache-dir", str(tmp_path / "cache"), "--socket", socket],
            stdin=terminal,
            stdout=opened,
            stderr=opened,
        )
    os.close(terminal)
    try:
        wait_until(socket.exists)
        wait_until(lambda: "ready on" in log.read_text())
        running.send_signal(signal.SIGHUP)
        wait_until(lambda: "configuration reloaded" in log.read_text())
        os.close(ours)
        assert running.wait(30) == 0
        assert "the terminal is gone" in log.read_text()
    finally:
        running.kill()
        running.wait()


_WITH_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


def fetches(daemon: Daemon) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = daemon.request("GET", "/v1/fetches")[1]["fetches"]
    return found


def states(daemon: Daemon) -> list[str]:
    return sorted(fetch["state"] for fetch in fetches(daemon))

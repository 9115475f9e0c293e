"""`hubctl top` on a terminal and in a pipe, against a real daemon."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

from tests.support.archives import archive
from tests.support.daemon import Daemon
from tests.support.hubctl import COMMAND, SECONDS, Terminal, environ_for, hubctl
from tests.support.origin import Answer, Origin

SHOW_CURSOR = "\x1b[?25h"
ALTERNATE_SCREEN, USUAL_SCREEN = "\x1b[?1049h", "\x1b[?1049l"


def test_top_shows_fetches_on_a_screen_of_its_own_until_q(daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve(
        "/m/1", Answer(archive({"saved_model.pb": os.urandom(6_000_000)}), gate_after_bytes=4_000_000)
    )
    with daemon.events(handle) as events:
        next(event for event in events if event["fetch"]["received_bytes"])
        # An interval of an hour: what is drawn after the first second was asked for.
        with Terminal(environ_for(daemon), ["top", "--interval", "1h"], size=(100, 24)) as terminal:
            terminal.read_until(" 67%")
            terminal.read_until("answers/s")
            before = len(terminal.screen)
            terminal.resize(60, 12)
            terminal.read_until("…", after=before)
            terminal.type("q")
            screen = terminal.read_until(None)
            assert terminal.process.wait(SECONDS) == 0
    assert screen.index(ALTERNATE_SCREEN) < screen.index(" 67%") < screen.rindex(USUAL_SCREEN)
    assert screen.rindex(SHOW_CURSOR) > screen.rindex(" 67%")


def test_top_outlives_the_daemon_and_ctrl_c_gives_the_terminal_back(daemon: Daemon) -> None:
    with Terminal(environ_for(daemon, HUBD_TIMEOUT="1"), ["top", "--interval", "100ms"]) as terminal:
        terminal.read_until("is well")
        daemon.stop()
        terminal.read_until("no answer, what follows is old")
        before = len(terminal.screen)
        daemon.start()
        terminal.read_until("is well", after=before)
        assert not terminal.echoes()
        terminal.process.send_signal(signal.SIGINT)
        screen = terminal.read_until(None)
        assert terminal.process.wait(SECONDS) == 130
        assert terminal.echoes()
    assert screen.rindex(USUAL_SCREEN) > screen.rindex("is well")
    assert "Traceback" not in screen


def test_top_stopped_by_ctrl_z_leaves_the_terminal_usable_and_goes_on(shared_daemon: Daemon) -> None:
    with Terminal(environ_for(shared_daemon), ["top", "--interval", "100ms"]) as terminal:
        terminal.read_until("is well")
        terminal.process.send_signal(signal.SIGTSTP)
        os.waitpid(terminal.process.pid, os.WUNTRACED)
        terminal.read_until(USUAL_SCREEN)
        assert terminal.echoes()
        before = len(terminal.screen)
        terminal.process.send_signal(signal.SIGCONT)
        terminal.read_until("is well", after=before)
        terminal.type("q")
        terminal.read_until(None)
        assert terminal.process.wait(SECONDS) == 0


def test_top_in_a_pipe_prints_looks_and_json_is_a_line_each(shared_daemon: Daemon) -> None:
    once = hubctl(shared_daemon, "top", "--once")
    assert (once.returncode, once.stderr) == (0, "")
    assert " is well" in once.stdout.splitlines()[0]
    assert "\x1b" not in once.stdout
    process = subprocess.Popen(
        [*COMMAND, "top", "--json", "--interval", "50ms"],
        env=environ_for(shared_daemon),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    first, second = (json.loads(process.stdout.readline()) for _ in range(2))
    process.send_signal(signal.SIGINT)
    assert process.wait(SECONDS) == 130
    process.communicate()
    assert (first["rates"], first["fetches"]) == (None, [])
    assert second["rates"]["answers_per_second"] >= 0
    assert second["status"]["pid"] == shared_daemon.pid


def test_top_without_a_daemon_exits_3(tmp_path: Path) -> None:
    done = hubctl(Daemon(tmp_path), "top", "--once", HUBD_TIMEOUT="0")
    assert (done.returncode, done.stdout) == (3, "")

"""Completion in real shells: what a person gets who types and presses Tab."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.archives import archive
from tests.support.daemon import Daemon
from tests.support.hubctl import COMMAND, Terminal, environ_for, environ_of, hubctl
from tests.support.origin import Answer, Origin

SHELLS = {
    "bash": ("bash", "--norc", "--noprofile", "-i"),
    "zsh": ("zsh", "-f", "-i"),
    "fish": ("fish", "--no-config", "-i"),
}
# What the shell would run, it prints instead; the scripts ask the real one.
PRINTING = 'hubctl() { echo "<$*>"; }; echo be""gun\n'
SOURCING = {
    "bash": 'bind "set enable-bracketed-paste off"; eval "$(hubctl completion bash)"; ' + PRINTING,
    "zsh": 'autoload -Uz compinit; compinit -D -u; eval "$(hubctl completion zsh)"; ' + PRINTING,
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory with a `hubctl` in `bin/`, whatever is installed on the machine."""
    program = tmp_path / "home" / "bin" / "hubctl"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\nexec " + " ".join(COMMAND) + ' "$@"\n')
    program.chmod(0o755)
    return tmp_path / "home"


def environ_in(home: Path, daemon: Daemon) -> dict[str, str]:
    environ = environ_for(daemon, HOME=str(home), ZDOTDIR=str(home))
    return {**environ, "PATH": f"{home}/bin:{Path(sys.executable).parent}:{environ['PATH']}"}


def cached(daemon: Daemon, origin: Origin, path: str) -> str:
    handle = origin.serve(path, Answer(archive({"saved_model.pb": b"\x08\x01\x12\x00"})))
    assert hubctl(daemon, "get", handle).returncode == 0
    return handle


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_tab_completes_commands_options_and_cached_handles(
    shell: str, home: Path, shared_daemon: Daemon, origin: Origin
) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    handle = cached(shared_daemon, origin, "/a-module/1")
    with Terminal(environ_in(home, shared_daemon), SHELLS[shell][1:], command=SHELLS[shell][:1]) as terminal:
        terminal.type(SOURCING[shell])
        terminal.read_until("begun\r\n")
        for typed, runs in (
            ("sta\t--js\t", "status --json"),
            ("ls --filter siz\t1GB", "ls --filter size>1GB"),
            (f"show {handle[:-4]}\t", f"show {handle}"),
        ):
            terminal.type(f"hubctl {typed}\n")
            terminal.read_until(f"<{runs}>")


def test_fish_completes_commands_options_and_cached_handles(home: Path, shared_daemon: Daemon, origin: Origin) -> None:
    if shutil.which("fish") is None:
        pytest.skip("fish is not installed")
    handle = cached(shared_daemon, origin, "/a-module/1")

    (home / "my-module").mkdir()
    lines = ("hubctl stat", "hubctl ls --so", "hubctl show http", f"hubctl pack {home}/my")
    asked = "".join(f"; echo '<'; complete -C '{line}'" for line in lines)
    done = subprocess.run(
        ["fish", "--no-config", "-c", f"hubctl completion fish | source{asked}"],
        env=environ_in(home, shared_daemon),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stderr == ""
    _, *answers = done.stdout.split("<\n")
    words = [[one.partition("\t")[0] for one in answer.splitlines()] for answer in answers]
    assert words[:2] == [["status"], ["--sort"]]
    assert handle in words[2]
    assert words[3] == [f"{home}/my-module/"]


def test_handles_are_completed_within_a_second_of_a_hanging_daemon_and_none_is_started(
    shared_daemon: Daemon, tmp_path: Path
) -> None:
    shared_daemon.signal(signal.SIGSTOP)
    try:
        started = time.monotonic()
        done = hubctl(shared_daemon, "__complete", "zsh", "get", "")
        took_seconds = time.monotonic() - started
    finally:
        shared_daemon.signal(signal.SIGCONT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert took_seconds < 20  # a daemon at work may be silent for 30 s elsewhere
    environ = environ_of(tmp_path / "none", tmp_path, HUBD_SOCKET="", HUBD_AUTOSTART="1")
    environ |= {"TFHUB_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [*COMMAND, "__complete", "zsh", "get", ""], env=environ, capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not (tmp_path / "cache").exists()

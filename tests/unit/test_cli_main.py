"""hubctl with unusual descriptors, directories and settings, and no daemon: an exit code and a line, no traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = (sys.executable, "-P", "-m", "hubclient.cli")


def environ_in(directory: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HUBD_", "TFHUB_", "XDG_"))}
    mine = {"HUBD_SOCKET": str(directory / "hubd.sock"), "HUBD_TIMEOUT": "0", "HUBD_AUTOSTART": "0"}
    return {**kept, "HOME": str(directory), "PYTHONUTF8": "1", "TERM": "dumb", **mine, **more}


def shell(directory: Path, line: str, *arguments: str | bytes, **environ: str) -> subprocess.CompletedProcess[bytes]:
    """A command line of sh, in which "$@" is hubctl and its arguments."""
    return subprocess.run(
        ["/bin/sh", "-c", line, "sh", *COMMAND, *arguments],
        env=environ_in(directory, **environ),
        cwd=directory,
        capture_output=True,
        timeout=30,
    )


def module(directory: Path, name: bytes = b"module") -> bytes:
    path = os.fsencode(directory) + b"/" + name
    os.mkdir(path)
    with open(path + b"/saved_model.pb", "wb"):
        return path


@pytest.mark.parametrize("arguments", [["get", "https://h.example/m/1"], ["get", "--json", "https://h.example/m/1"]])
def test_with_stderr_closed_messages_do_not_go_to_stdout(tmp_path: Path, arguments: list[str]) -> None:
    done = shell(tmp_path, '"$@" 2>&-', *arguments)
    assert (done.returncode, done.stdout) == (3, b"")


def test_with_stdout_closed_a_path_that_nobody_gets_is_a_failure(tmp_path: Path) -> None:
    done = shell(tmp_path, '"$@" >&-', "get", module(tmp_path))
    assert (done.returncode, done.stderr) == (1, b"hubctl: cannot write to stdout: it is closed\n")


def test_a_path_that_is_no_utf_8_is_written_as_it_is(tmp_path: Path) -> None:
    path = module(tmp_path, b"\xff\xe9")
    done = shell(tmp_path, '"$@"', "get", path, PYTHONIOENCODING="utf-8:strict")
    assert (done.returncode, done.stdout) == (0, path + b"\n")


def test_json_of_a_path_that_is_no_utf_8_is_json_all_the_same(tmp_path: Path) -> None:
    path = module(tmp_path, b"\xff\xe9")
    done = shell(tmp_path, '"$@"', "get", "--json", path, PYTHONIOENCODING="utf-8:strict")
    assert done.returncode == 0
    assert os.fsencode(json.loads(done.stdout.decode())["path"]) == path


@pytest.mark.parametrize("arguments", [["--help"], ["ls", "--help"], ["--version"]], ids=" ".join)
def test_a_full_disk_behind_stdout_is_said_in_one_line(tmp_path: Path, arguments: list[str]) -> None:
    done = shell(tmp_path, '"$@" >/dev/full', *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith(b"hubctl: ")
    assert done.stderr.count(b"\n") == 1
    assert b"No space left" in done.stderr


def test_help_into_a_pipe_that_nobody_reads_ends_quietly(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*COMMAND, "--help"], env=environ_in(tmp_path), stdout=writing, stderr=subprocess.PIPE, timeout=30
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_working_directory_that_is_gone_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    done = shell(tmp_path, 'cd gone && rmdir ../gone && exec "$@"', "get", "some/path")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.splitlines()[0].startswith(b"hubctl: ")
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("option", [[], ["--refresh"], ["--digest", "0" * 64]], ids=str)
def test_a_setting_that_is_wrong_does_not_lose_the_local_paths(tmp_path: Path, option: list[str]) -> None:
    path = module(tmp_path)
    handles = ["https://h.example/m/1", "https://h.example/m/2"]
    local = [] if option[:1] == ["--digest"] else [path]  # a directory has no digest
    done = shell(tmp_path, '"$@"', "get", *option, *handles, *local, HUBD_TIMEOUT="abc")
    assert (done.returncode, done.stdout) == (1, b"".join(one + b"\n" for one in local))
    assert done.stderr.count(b"HUBD_TIMEOUT is 'abc'") == 1


def test_with_a_digest_a_handle_that_is_none_spoils_no_other(tmp_path: Path) -> None:
    done = shell(tmp_path, '"$@"', "get", "--digest", "0" * 64, "https://", "https://h.example/m/1")
    assert b"[handle-invalid]" in done.stderr
    assert b"[daemon-unreachable]" in done.stderr


@pytest.mark.parametrize(
    ("options", "count"), [([], 1), (["--quiet"], 0), (["--json"], 0)], ids=["plain", "quiet", "json"]
)
def test_a_daemon_that_is_waited_for_is_named_once(tmp_path: Path, options: list[str], count: int) -> None:
    done = shell(tmp_path, '"$@"', "get", *options, "https://h.example/m/1", HUBD_TIMEOUT="1.5")
    assert done.returncode == 3
    said = f"waiting for the daemon at {tmp_path}/hubd.sock (up to 1.5 s)\n"
    assert done.stderr.decode().count(said) == count

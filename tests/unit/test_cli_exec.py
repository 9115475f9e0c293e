"""`hubctl exec`: a command under leases, in processes of its own, on a cache that needs no daemon."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from hubclient.cli.executing import environment, with_paths
from tests.support.handmade_cache import HandmadeCache, is_leased
from tests.support.hubctl import COMMAND, SECONDS, environ_of
from tests.support.waiting import wait_until

A, B = "https://h.example/a/1", "https://h.example/b/1"


@pytest.fixture
def cache(tmp_path: Path) -> HandmadeCache:
    made = HandmadeCache(tmp_path / "cache")
    (tmp_path / "hubd.sock.cache").symlink_to(made.root)
    return made


def environ(cache: HandmadeCache, **more: str) -> dict[str, str]:
    directory = Path(cache.root).parent
    return environ_of(directory / "hubd.sock", directory, **{"HUBD_TIMEOUT": "0", **more})


def execute(cache: HandmadeCache, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "exec", *arguments],
        env=environ(cache, **more),
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


@contextmanager
def running(cache: HandmadeCache, script: str) -> Iterator[subprocess.Popen[bytes]]:
    """A shell under leases on A and B that has said its first line; it is given `script`, and a stdin to wait for."""
    with subprocess.Popen(
        [*COMMAND, "exec", A, B, "--", "sh", "-c", script],
        env=environ(cache),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline(), process.wait()
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def test_the_leases_are_held_while_the_command_runs_and_gone_after_it(cache: HandmadeCache) -> None:
    digests = cache.add(A), cache.add(B, name="b")
    with running(cache, "echo here; read line; exit 3") as process:
        assert [is_leased(cache.layout, digest) for digest in digests] == [True, True]
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(SECONDS) == 3
        assert [is_leased(cache.layout, digest) for digest in digests] == [False, False]


def test_a_child_of_a_script_with_descriptors_of_its_own_holds_them_on(cache: HandmadeCache) -> None:
    digest = cache.add(A)
    cache.add(B, name="b")
    with running(cache, "exec 3<&0; (read line <&3) & echo here; exit 0") as process:
        assert process.wait(SECONDS) == 0
        assert is_leased(cache.layout, digest)
        assert process.stdin is not None
        process.stdin.close()
        wait_until(lambda: not is_leased(cache.layout, digest))


def test_a_command_that_is_killed_lets_go(cache: HandmadeCache) -> None:
    digest = cache.add(A)
    cache.add(B, name="b")
    with running(cache, "echo here; read line") as process:
        assert is_leased(cache.layout, digest)
        process.kill()
        assert process.wait(SECONDS) == -signal.SIGKILL
        assert not is_leased(cache.layout, digest)


def test_the_command_is_told_the_paths(cache: HandmadeCache) -> None:
    a, b = cache.layout.module(cache.add(A)), cache.layout.module(cache.add(B, name="b"))
    script = 'echo "$HUBD_PATH,$HUBD_PATH_1,$HUBD_PATH_2" "$@"'
    done = execute(cache, A, B, "--", "sh", "-c", script, "sh", "--module={}", "{2}", "{3}", "--", HUBD_PATH_7="old")
    assert done.stdout == f"{a},{a},{b} --module={a} {b} {{3}} --\n"
    assert done.stderr == ""
    kept = execute(cache, "--keep-braces", A, "--", "echo", "{}")
    assert kept.stdout == "{}\n"


def test_a_directory_needs_no_lease(cache: HandmadeCache, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "saved_model.pb").touch()
    assert execute(cache, str(tmp_path / "mine"), "--", "echo", "{}").stdout == f"{tmp_path}/mine\n"


def test_the_exit_codes_are_those_of_a_shell(cache: HandmadeCache, tmp_path: Path) -> None:
    cache.add(A)
    missing = execute(cache, A, "--", "no-such-command-of-ours")
    assert (missing.returncode, missing.stderr) == (127, "hubctl: no-such-command-of-ours: command not found\n")
    directory = execute(cache, A, "--", str(tmp_path))
    assert (directory.returncode, directory.stderr) == (126, f"hubctl: {tmp_path}: Permission denied\n")
    assert execute(cache, A, "--", "sh", "-c", "exit 42").returncode == 42


def test_without_one_of_the_modules_the_command_does_not_run(cache: HandmadeCache) -> None:
    cache.add(A)
    done = execute(cache, A, B, "--", "echo", "ran")
    assert (done.returncode, done.stdout) == (3, "")
    assert "[daemon-unreachable]" in done.stderr
    nowhere = execute(cache, "./nowhere", "--", "echo", "ran")
    assert (nowhere.returncode, nowhere.stdout) == (1, "")


def test_offline_nothing_is_fetched_for_a_command(cache: HandmadeCache) -> None:
    cache.add(A)
    assert execute(cache, A, "--", "true", HUBD_OFFLINE="1").returncode == 0
    done = execute(cache, B, "--", "true", HUBD_OFFLINE="1")
    assert done.returncode == 1
    assert "[offline]" in done.stderr


def test_a_stale_copy_is_used_with_a_warning_and_leased(cache: HandmadeCache) -> None:
    digest = cache.add(A, direct_for_seconds=-1)
    done = execute(cache, A, "--", "sh", "-c", 'ls -l /proc/self/fd; echo "$HUBD_PATH"')
    assert done.returncode == 0, done.stderr
    assert cache.layout.lease(digest) in done.stdout
    assert f"hubctl: warning: {A} may be out of date" in done.stderr


def test_the_command_ends_when_nobody_reads_it(cache: HandmadeCache) -> None:
    cache.add(A)
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*COMMAND, "exec", A, "--", "yes"], env=environ(cache), stdout=writing, stderr=subprocess.PIPE, timeout=SECONDS
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (-signal.SIGPIPE, b"")


def test_no_other_descriptor_reaches_the_command(cache: HandmadeCache) -> None:
    digest = cache.add(A)
    # `ls` itself has its directory open.
    done = execute(cache, A, "--", "sh", "-c", "exec ls -l /proc/self/fd")
    targets = [line.rpartition(" -> ")[2] for line in done.stdout.splitlines()[1:]]
    lease = [target for target in targets if target == cache.layout.lease(digest)]
    assert (len(lease), len(targets)) == (1, 5)


def test_replaced_text_is_not_looked_at_again() -> None:
    assert with_paths(["{}{1}{2}{3}{0}{x}", "{}"], ["/a/{2}", "/b"]) == ["/a/{2}/a/{2}/b{3}{0}{x}", "/a/{2}"]


def test_the_paths_of_a_command_around_it_do_not_stay() -> None:
    environ = {"HUBD_PATH": "/x", "HUBD_PATH_1": "/x", "HUBD_PATH_2": "/y", "HUBD_PATHS": "mine"}
    assert environment(environ, ["/a"]) == {"HUBD_PATHS": "mine", "HUBD_PATH": "/a", "HUBD_PATH_1": "/a"}

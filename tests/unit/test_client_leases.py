"""The lease of a program, in whatever way its processes end, fork, or become another program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import hubclient
from tests.support.handmade_cache import HandmadeCache, is_leased
from tests.support.waiting import wait_until

HANDLE = "https://example.org/m/1"
CLIENT = Path(hubclient.__file__).parent.parent


@pytest.fixture
def cache(tmp_path: Path) -> HandmadeCache:
    return HandmadeCache(tmp_path / "cache")


@pytest.fixture
def digest(cache: HandmadeCache) -> str:
    return cache.add(HANDLE)


@contextmanager
def program(cache: HandmadeCache, code: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has run the code after ``import hubclient, os, sys``, and has said so by a line.

    What reads its standard input to the end stays until the block ends.
    """
    environ = {"TFHUB_CACHE_DIR": cache.root, "HUBD_AUTOSTART": "0", "HUBD_TIMEOUT": "0", "PATH": os.defpath}
    lines = f"import os, sys\nsys.path.insert(0, {str(CLIENT)!r})\nimport hubclient\nHANDLE = {HANDLE!r}\n{code}"
    with subprocess.Popen(
        [sys.executable, "-P", "-c", lines], env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() != ""
            yield process
        finally:
            process.kill()


HOLDS = "hubclient.resolve(HANDLE); print('holds', flush=True); sys.stdin.read()"


def test_a_killed_holder_lets_go(cache: HandmadeCache, digest: str) -> None:
    with program(cache, HOLDS) as holder:
        assert is_leased(cache.layout, digest)
        holder.send_signal(signal.SIGKILL)
        holder.wait(30)
        assert not is_leased(cache.layout, digest)


def test_a_stopped_holder_keeps_its_lease(cache: HandmadeCache, digest: str) -> None:
    with program(cache, HOLDS) as holder:
        holder.send_signal(signal.SIGSTOP)
        assert is_leased(cache.layout, digest)


FORKS = """
hubclient.resolve(HANDLE)
if (child := os.fork()) == 0:
    sys.stdin.read()
    os._exit(0)
print(child, flush=True)
sys.stdin.read()
"""


def test_a_child_keeps_the_lease_of_a_parent_that_died_until_it_ends_itself(cache: HandmadeCache, digest: str) -> None:
    with program(cache, FORKS) as parent:
        assert parent.stdin is not None
        parent.kill()
        parent.wait(30)
        assert is_leased(cache.layout, digest)
        parent.stdin.close()  # with which the child ends
        wait_until(lambda: not is_leased(cache.layout, digest))


def test_a_parent_keeps_its_lease_when_a_child_ends(cache: HandmadeCache, digest: str) -> None:
    code = """
hubclient.resolve(HANDLE)
if os.fork() == 0: sys.exit()
os.wait()
print("alone", flush=True)
sys.stdin.read()
"""
    with program(cache, code):
        assert is_leased(cache.layout, digest)


def test_a_lease_that_ends_with_its_block_ends_though_a_child_was_forked_and_ended(
    cache: HandmadeCache, digest: str
) -> None:
    code = """
with hubclient.lease(HANDLE):
    if os.fork() == 0: os._exit(0)
    os.wait()
print("left", flush=True)
sys.stdin.read()
"""
    with program(cache, code):
        assert not is_leased(cache.layout, digest)


def test_another_program_in_the_same_process_has_no_lease(cache: HandmadeCache, digest: str) -> None:
    with program(cache, "hubclient.resolve(HANDLE)\nos.execlp('sh', 'sh', '-c', 'echo here; exec cat')"):
        assert not is_leased(cache.layout, digest)


def test_a_started_program_has_no_lease(cache: HandmadeCache, digest: str) -> None:
    code = """
import subprocess
with hubclient.lease(HANDLE):
    started = subprocess.Popen(["cat"])
print("left", flush=True)
started.wait()
"""
    with program(cache, code) as parent:
        assert not is_leased(cache.layout, digest)
        assert parent.stdin is not None
        parent.stdin.close()
        assert parent.wait(30) == 0


def test_a_lease_that_was_made_inheritable_passes_on_to_another_program(cache: HandmadeCache, digest: str) -> None:
    code = """
from hubclient.resolving import hold
lease = hold(HANDLE).lease
os.set_inheritable(lease.fileno(), True)
os.execlp('sh', 'sh', '-c', 'echo here; exec cat')
"""
    with program(cache, code) as holder:
        assert is_leased(cache.layout, digest)
        holder.kill()
        holder.wait(30)
        assert not is_leased(cache.layout, digest)

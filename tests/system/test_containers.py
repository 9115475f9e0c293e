"""Programs in containers use the daemon of the machine: what must be mounted, whom they trust, and what holds a module.

The containers are real to the kernel (tests/support/container.py): mounts, processes, ids and a root of their own.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.support import uids
from tests.support.archives import MODULE, archive
from tests.support.container import Mount, Plan
from tests.support.daemon import ask
from tests.support.origin import Answer, Origin
from tests.support.service import CONFIG, Service
from tests.support.uids import ALICE
from tests.support.waiting import wait_until

pytestmark = uids.needs_root

USER = 1000  # in containers
FIRST_UID = 20_000_000  # of user namespaces: the host's own users look like nobody there
NOBODY = 65534
SECONDS = 60

RESOLVE = """
import hubclient, sys
try:
    print(hubclient.resolve(sys.argv[1]))
except hubclient.HubError as error:
    print(error.code, error)
else:
    print("asked" if "hubclient.daemon" in sys.modules else "direct")
"""
HOLD = "import hubclient, sys; print(hubclient.resolve(sys.argv[1]), flush=True); input()"


@pytest.fixture(scope="module")
def running() -> Iterator[Service]:
    """ALICE's daemon on the host, its socket in a directory of its own."""
    with uids.directory_of(ALICE) as place:
        service = Service(Path(place))
        service.socket = Path(place, "run", "hubd.sock")
        with service:
            yield service


@pytest.fixture
def handle(origin: Origin) -> str:
    """A module that no other test has: equal ones would share a tree."""
    return origin.serve("/m/1", Answer(archive({**MODULE, "assets/port": str(origin.port).encode()})))


def mounted(service: Service) -> tuple[Mount, ...]:
    """What a container needs: the cache and the socket's directory, at their own paths."""
    return tuple(Mount(str(path), str(path)) for path in (service.cache, service.socket.parent))


def printed(plan: Plan, program: str, *arguments: str, **environ: str) -> list[str]:
    """The lines that a Python program prints in this container."""
    run = subprocess.run(
        plan.command(sys.executable, "-W", "error", "-c", program, *arguments),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env={"PATH": os.defpath, "HOME": "/", "HUBD_TIMEOUT": "5", **environ},
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout.splitlines()


@contextmanager
def holding(plan: Plan, handle: str, asked: Path) -> Iterator[str]:
    """The path of a module that a program in this container holds until the block ends."""
    holder = subprocess.Popen(
        plan.command(sys.executable, "-c", HOLD, handle),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PATH": os.defpath, "HUBD_SOCKET": str(asked)},
    )
    try:
        assert holder.stdout is not None
        path = holder.stdout.readline().strip()
        assert path, "it ended"
        yield path
    finally:
        holder.communicate("\n", SECONDS)


def answers(socket_path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(socket_path)) == 0


def in_tree(service: Service, path: str) -> bool:
    return path.startswith(f"{service.cache}/trees/")


def test_read_only_mounts_of_cache_and_socket_are_all_that_a_container_needs(running: Service, handle: str) -> None:
    plan = Plan(USER, mounted(running))
    path, how = printed(plan, RESOLVE, handle, HUBD_SOCKET=str(running.socket))
    assert in_tree(running, path)
    assert how == "asked"
    assert printed(plan, RESOLVE, handle, HUBD_SOCKET=str(running.socket)) == [path, "direct"]
    refused = f"""
import errno, os
for directory in ({str(running.cache)!r}, {str(running.socket.parent)!r}):
    try:
        os.mkdir(directory + "/planted")
    except OSError as error:
        print(errno.errorcode[error.errno])
"""
    assert printed(plan, refused) == ["EROFS", "EROFS"]


def test_a_lease_that_a_container_holds_keeps_the_module(running: Service, handle: str) -> None:
    key = ask(running.socket, "POST", "/v1/resolve", {"handle": handle})[1]["key"]
    with holding(Plan(USER, mounted(running)), handle, running.socket) as path:
        # The daemon's own lease, which it holds for whoever it told the path, is not what is in the way for long.
        running.stop()
        running.start()
        status, problem = ask(running.socket, "DELETE", f"/v1/modules/{key}")
        assert (status, problem["code"]) == (409, "in-use")
        assert os.path.isdir(path)
    assert ask(running.socket, "DELETE", f"/v1/modules/{key}")[0] == 200


def test_a_container_finds_the_daemon_again_that_was_started_anew(running: Service) -> None:
    ask_twice = """
import hubclient, sys
from hubclient.daemon import reach
for _ in range(2):
    print(reach().get("/v1/status")["pid"], flush=True)
    input()
"""
    with subprocess.Popen(
        Plan(USER, mounted(running)).command(sys.executable, "-c", ask_twice),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PATH": os.defpath, "HUBD_SOCKET": str(running.socket)},
    ) as asking:
        assert asking.stdin is not None
        assert asking.stdout is not None
        first = asking.stdout.readline()
        running.stop()  # which takes the socket away
        running.start()
        print(file=asking.stdin, flush=True)
        second = asking.stdout.readline()
        print(file=asking.stdin, flush=True)
    assert first.strip().isdigit()
    assert second.strip().isdigit()
    assert first != second


def test_a_container_without_the_cache_is_told_to_mount_it_at_the_same_path(running: Service, handle: str) -> None:
    cache, way = mounted(running)
    (error,) = printed(Plan(USER, (way,)), RESOLVE, handle, HUBD_SOCKET=str(running.socket))
    assert error.startswith(f"cache-unreachable the daemon answered {running.cache}/trees/")
    assert "mount the cache at the same path" in error
    elsewhere = Mount(cache.source, "/models")
    (error,) = printed(Plan(USER, (way, elsewhere)), RESOLVE, handle, HUBD_SOCKET=str(running.socket))
    assert "mount the cache at the same path" in error


def test_a_container_without_the_socket_has_its_hits_and_is_told_what_a_miss_lacks(
    running: Service, handle: str
) -> None:
    cache, _ = mounted(running)
    ask(running.socket, "POST", "/v1/resolve", {"handle": handle})
    plan = Plan(USER, (cache,))
    # Nothing in this container says that ALICE is to be trusted.
    (error,) = printed(plan, RESOLVE, handle, TFHUB_CACHE_DIR=str(running.cache), HUBD_OFFLINE="1")
    assert error.startswith("cache-untrusted")
    assert f"HUBD_TRUST_UID={ALICE}" in error
    trusted = {"TFHUB_CACHE_DIR": str(running.cache), "HUBD_TRUST_UID": str(ALICE)}
    path, how = printed(plan, RESOLVE, handle, **trusted)
    assert in_tree(running, path)
    assert how == "direct"
    (error,) = printed(plan, RESOLVE, handle + "0", HUBD_SOCKET=str(running.socket))
    assert error.startswith(f"daemon-unreachable there is no {running.socket.parent}")
    assert "in a container, mount that directory at the same path" in error


@pytest.mark.parametrize(
    ("first_uid", "shown_as"),
    [pytest.param(FIRST_UID, NOBODY, id="not mapped"), pytest.param(ALICE - 7, 7, id="mapped to another uid")],
)
def test_in_a_user_namespace_the_daemons_uid_is_another_and_is_trusted_by_that_one(
    running: Service, handle: str, first_uid: int, shown_as: int
) -> None:
    cache, way = mounted(running)
    plan = Plan(USER, (cache, way), first_uid)
    # The owner of the socket's directory vouches for the cache, whatever uid that is here.
    path, _ = printed(plan, RESOLVE, handle, HUBD_SOCKET=str(running.socket))
    assert in_tree(running, path)
    alone = Plan(USER, (cache,), first_uid)
    named = {"TFHUB_CACHE_DIR": str(running.cache), "HUBD_OFFLINE": "1"}
    (error,) = printed(alone, RESOLVE, handle, **named)
    assert error.startswith("cache-untrusted")
    assert f"set HUBD_TRUST_UID={shown_as}" in error
    assert printed(alone, RESOLVE, handle, **named, HUBD_TRUST_UID=str(shown_as)) == [path, "direct"]
    # To the daemon the program's user is the host's uid, and root in that namespace is nobody's administrator.
    pin = """
import hubclient, sys
from hubclient.contract import handles
from hubclient.daemon import reach
try:
    reach().put("/v1/modules/" + handles.key(sys.argv[1]) + "/pin")
except hubclient.HubError as error:
    print(error.code)
"""
    root = Plan(0, (cache, way), first_uid)
    assert printed(root, pin, handle, HUBD_SOCKET=str(running.socket)) == ["access-denied"]


def test_a_lease_is_held_through_a_user_namespace(running: Service, handle: str) -> None:
    key = ask(running.socket, "POST", "/v1/resolve", {"handle": handle})[1]["key"]
    with holding(Plan(USER, mounted(running), FIRST_UID), handle, running.socket):
        running.stop()
        running.start()
        assert ask(running.socket, "DELETE", f"/v1/modules/{key}")[1]["code"] == "in-use"


def test_a_daemon_in_a_container_serves_whom_it_has_no_pid_for(tmp_path: Path, handle: str) -> None:
    with uids.directory_of(ALICE) as place:
        served = Path(place, "hubd.sock")
        config = Path(place, "hubd.toml")
        config.write_text(CONFIG)
        plan = Plan(ALICE, (Mount(place, place, read_only=False),))

        def hubd(cache: str) -> list[str]:
            program = [sys.executable, "-P", "-m", "hubd", "run", "--config", str(config)]
            return plan.command(*program, "--cache-dir", f"{place}/{cache}", "--socket", str(served))

        def refusal(cache: str) -> str:
            second = subprocess.run(hubd(cache), capture_output=True, text=True, timeout=SECONDS, env={})
            assert second.returncode == 1
            return second.stderr

        with (tmp_path / "log").open("wb") as log, subprocess.Popen(hubd("cache"), stderr=log, env={}) as contained:
            try:
                wait_until(partial(answers, served))
                status, answer = ask(served, "POST", "/v1/resolve", {"handle": handle})
                assert (status, answer["outcome"]) == (200, "fetched")
                assert os.path.isfile(answer["path"] + "/saved_model.pb")
                assert ask(served, "GET", "/v1/status")[1]["pid"] == 1  # as its container sees it
                # Daemons of other containers do not get between it and its clients, nor into its cache.
                assert f"another hubd holds {place}/cache" in refusal("cache")
                assert f"another daemon (in another container) listens on {served}" in refusal("cache2")
                assert ask(served, "GET", "/v1/status")[0] == 200
            finally:
                contained.terminate()
        assert contained.returncode == 0, (tmp_path / "log").read_text()
        assert json.loads((Path(place) / "cache" / "daemon.lock").read_text())["stopped"] is True


def test_a_service_in_a_user_namespace_says_that_users_look_alike(tmp_path: Path) -> None:
    with uids.directory_of(ALICE) as place:
        served = Path(place, "hubd.sock")
        config = Path(place, "hubd.toml")
        config.write_text(CONFIG)
        os.chown(config, ALICE, ALICE)
        plan = Plan(7, (Mount(place, place, read_only=False),), ALICE - 7)
        program = [sys.executable, "-P", "-m", "hubd", "run", "--config", str(config)]
        command = plan.command(*program, "--cache-dir", f"{place}/cache", "--socket", str(served))
        with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, stderr=log, env={}) as contained:
            try:
                wait_until(partial(answers, served))
                (warning,) = ask(served, "GET", "/v1/status")[1]["warnings"]
                assert f"look like uid {NOBODY}, root among them" in warning
                assert ask(served, "POST", "/v1/verify", {})[1]["code"] == "access-denied", "the host's root is one"
            finally:
                contained.terminate()

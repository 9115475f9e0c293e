"""With nothing set up the client starts a daemon of the user's own, and finds it again."""

from __future__ import annotations

import os
import select
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from hubclient import finding
from hubclient.connecting import connect_to_users
from hubclient.contract.errors import DaemonUnreachable
from hubclient.daemon import Daemon, reach
from hubclient.finding import Place
from hubclient.resolver import Resolver
from tests.support.archives import archive
from tests.support.clients import Client
from tests.support.origin import Answer, Origin
from tests.support.waiting import wait_until

END_MILLISECONDS = 60_000


@pytest.fixture
def home() -> Iterator[Path]:
    """A home directory; the daemons that the test started for its cache end with it.

    Its path is short, as pytest's own are not: a socket's path has 107 bytes at most.
    """
    with tempfile.TemporaryDirectory(prefix="hubd-") as directory:
        home = Path(directory)
        (home / "run").mkdir(mode=0o700)
        yield home
        end_daemon(environ_of(home))


def environ_of(home: Path, **variables: str) -> dict[str, str]:
    """What a login session has."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HUBD_", "XDG_", "TFHUB_"))}
    return (
        kept
        | {
            "HOME": str(home),
            "XDG_RUNTIME_DIR": str(home / "run"),
            "XDG_STATE_HOME": str(home / "state"),
            "TFHUB_CACHE_DIR": str(home / "my_module_cache"),
        }
        | variables
    )


def without_session(home: Path) -> dict[str, str]:
    """What a cron job has."""
    environ = environ_of(home)
    del environ["XDG_RUNTIME_DIR"]
    return environ


def pid_of_daemon(environ: dict[str, str]) -> int | None:
    """Of the daemon that answers, without starting one."""
    try:
        with reach(environ | {"HUBD_AUTOSTART": "0", "HUBD_TIMEOUT": "0"}) as daemon:
            pid = daemon.get("/v1/status")["pid"]
            assert isinstance(pid, int)
            return pid
    except DaemonUnreachable:
        return None


def end_daemon(environ: dict[str, str], number: signal.Signals = signal.SIGTERM) -> None:
    pid = pid_of_daemon(environ)
    if pid is None:
        return
    process = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(process, number)
        wait_for_end(process)
    finally:
        os.close(process)


def wait_for_end(process: int) -> None:
    ended = select.poll()
    ended.register(process, select.POLLIN)
    assert ended.poll(END_MILLISECONDS), "the daemon did not end"


def test_the_guides_example_works_with_nothing_set_up(home: Path, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(archive()))
    path = Path(Resolver(environ_of(home)).resolve(handle))
    assert path.is_relative_to(home / "my_module_cache")
    assert (path / "saved_model.pb").is_file()


def test_nobody_else_enters_a_cache_that_is_made_at_its_usual_place(home: Path, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(archive()))
    usual = environ_of(home, XDG_CACHE_HOME=str(home / "caches"))
    del usual["TFHUB_CACHE_DIR"]
    try:
        for environ, cache, mode in ((usual, "caches/hubd", 0o700), (environ_of(home), "my_module_cache", 0o755)):
            path = Path(Resolver(environ).resolve(handle))
            assert path.is_relative_to(home / cache)
            assert stat.S_IMODE((home / cache).stat().st_mode) == mode
            assert stat.S_IMODE((home / cache).parent.stat().st_mode) & 0o022 == 0
    finally:
        end_daemon(usual)


def test_what_the_first_program_ignores_or_blocks_does_not_reach_the_daemon(home: Path, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(archive()))
    program = (
        "import hubclient, signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN); "
        f"signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]); print(hubclient.resolve({handle!r}))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, env=environ_of(home)
    )
    assert run.returncode == 0, run.stderr
    assert os.path.isdir(run.stdout.strip())
    end_daemon(environ_of(home), signal.SIGTERM)


def test_clients_that_start_at_once_end_with_one_daemon(home: Path, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(archive()))
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(handle, environ_of(home))) for _ in range(4)]
        paths = {client.answer() for client in clients}
    assert len(paths) == 1
    assert os.path.isdir(paths.pop())
    assert len(origin.asked("/m/1")) == 1
    wait_until(lambda: (home / "state" / "hubd" / "hubd.log").read_text().count("ready on") == 1)


def test_clients_of_two_sessions_that_start_at_once_end_with_one_daemon(home: Path, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(archive()))
    with ExitStack() as stack:
        environs = (environ_of(home), without_session(home) | {"XDG_STATE_HOME": str(home / "other state")})
        clients = [stack.enter_context(Client(handle, environ)) for environ in environs]
        assert len({client.answer() for client in clients}) == 1
    assert len(origin.asked("/m/1")) == 1
    logs = [home / name / "hubd" / "hubd.log" for name in ("state", "other state")]
    wait_until(lambda: sum(log.read_text().count("ready on") for log in logs if log.exists()) == 1)


def test_the_daemon_is_no_child_of_the_program_that_needed_it_and_survives_it(home: Path, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(archive()))
    with Client(handle, environ_of(home)) as client:
        client.answer()
        pid = pid_of_daemon(environ_of(home))
        assert not Path(f"/proc/{client.process.pid}/task/{client.process.pid}/children").read_text()
    assert pid is not None
    assert pid_of_daemon(environ_of(home)) == pid
    assert os.getsid(pid) != os.getsid(0)
    assert os.readlink(f"/proc/{pid}/cwd") == "/"


def test_a_second_program_uses_the_same_daemon(home: Path, origin: Origin) -> None:
    first, second = (origin.serve(path, Answer(archive())) for path in ("/m/1", "/n/1"))
    Resolver(environ_of(home)).resolve(first)
    pid = pid_of_daemon(environ_of(home))
    Resolver(environ_of(home)).resolve(second)
    assert pid_of_daemon(environ_of(home)) == pid


def test_a_client_without_a_session_finds_the_daemon_of_the_session(home: Path, origin: Origin) -> None:
    Resolver(environ_of(home)).resolve(origin.serve("/m/1", Answer(archive())))
    pid = pid_of_daemon(environ_of(home))
    assert pid is not None
    assert pid_of_daemon(without_session(home)) == pid


def test_after_a_logout_the_next_client_works(home: Path, origin: Origin) -> None:
    Resolver(environ_of(home)).resolve(origin.serve("/m/1", Answer(archive())))
    pid = pid_of_daemon(environ_of(home))
    assert pid is not None
    process = os.pidfd_open(pid)
    shutil.rmtree(home / "run")
    try:
        cold = origin.serve("/n/1", Answer(archive({"saved_model.pb": b"\x08\x01\x12\x00"})))
        assert os.path.isdir(Resolver(environ_of(home)).resolve(cold))
        assert pid_of_daemon(environ_of(home)) != pid
        wait_for_end(process)
    finally:
        os.close(process)


def test_a_program_that_outlives_a_logout_goes_on_working(home: Path, origin: Origin) -> None:
    resolver = Resolver(environ_of(home))
    warm = origin.serve("/m/1", Answer(archive()))
    path = resolver.resolve(warm)
    shutil.rmtree(home / "run")
    assert resolver.resolve(warm) == path
    cold = origin.serve("/n/1", Answer(archive({"saved_model.pb": b"\x08\x01\x12\x00"})))
    assert os.path.isdir(resolver.resolve(cold))


@pytest.mark.parametrize("number", [pytest.param(signal.SIGTERM, marks=pytest.mark.thorough), signal.SIGKILL])
def test_a_daemon_that_ended_is_started_again_when_it_is_needed(
    home: Path, origin: Origin, number: signal.Signals
) -> None:
    environ = environ_of(home)
    resolver = Resolver(environ)
    warm = origin.serve("/m/1", Answer(archive()))
    path = resolver.resolve(warm)
    end_daemon(environ, number)
    assert Resolver(environ).resolve(warm) == path
    assert pid_of_daemon(environ) is None, "a cached module needs no daemon"
    assert os.path.isdir(
        resolver.resolve(origin.serve("/n/1", Answer(archive({"saved_model.pb": b"\x08\x01\x12\x00"}))))
    )
    assert pid_of_daemon(environ) is not None


def test_a_service_that_is_away_is_replaced_by_ones_own_daemon_if_one_says_so(home: Path) -> None:
    place = Place(str(home / "service" / "hubd.sock"), None, "service")
    environ = environ_of(home, HUBD_AUTOSTART="1")
    with Daemon(place, environ=environ, timeout_seconds=0) as daemon:
        assert daemon.get("/v1/status")["cache"]["dir"] == str(home / "my_module_cache")
        assert daemon.place.kind == "user"


def test_what_keeps_the_daemon_from_starting_is_told(home: Path) -> None:
    (home / "my_module_cache" / "trees").mkdir(parents=True)
    with pytest.raises(DaemonUnreachable, match=r"these names in it are in the way: trees.*hubd\.log"):
        reach(environ_of(home))


def test_no_configuration_can_hide_the_daemon_from_its_user(home: Path) -> None:
    config = home / "config.toml"
    config.write_text(f'[api]\nsocket = "{home}/run/elsewhere.sock"\n')
    environ = environ_of(home, HUBD_CONFIG=str(config))
    with reach(environ) as daemon:
        assert daemon.get("/v1/status")["socket"] == f"{home}/run/elsewhere.sock"
    pid = pid_of_daemon(environ)
    connected = connect_to_users(finding.user_place(environ), environ)
    assert pid is not None
    assert connected is not None
    connected.close()


def test_a_program_that_is_offline_leaves_no_daemon_that_is(home: Path, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(archive()))
    with reach(environ_of(home, HUBD_OFFLINE="1")) as daemon:
        assert daemon.get("/v1/modules")["modules"] == []
    with reach(environ_of(home)) as daemon:
        assert daemon.resolve(handle)["outcome"] == "fetched"

"""The daemon as one unprivileged user, a client as another: what each can do, and what neither can.

Everything else runs as root in many containers, which hides permission mistakes.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import pytest

from hubclient.contract.lease import Lease
from tests.support import as_user, uids
from tests.support.archives import MODULE, archive
from tests.support.daemon import ask
from tests.support.origin import Answer, Origin
from tests.support.uids import ALICE, BOB
from tests.support.waiting import wait_until

pytestmark = uids.needs_root


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory of ALICE's that everyone may enter."""
    directory = Path(tempfile.mkdtemp(prefix="hubd-two-"))
    os.chown(directory, ALICE, ALICE)
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def service(place: Path) -> Iterator[Path]:
    """The socket of ALICE's daemon, which serves everyone."""
    config = place / "hubd.toml"
    config.write_text("[network]\nallow_http = true\nallow_private_addresses = true\n")
    socket = place / "hubd.sock"
    program = [sys.executable, "-P", "-m", "hubd", "run", "--config", str(config)]
    program += ["--cache-dir", str(place / "cache"), "--socket", str(socket)]
    running = subprocess.Popen(
        as_user.command(ALICE, *program), cwd=as_user.REPOSITORY, stderr=subprocess.PIPE, env={"PATH": os.defpath}
    )
    assert running.stderr is not None
    told = iter(running.stderr.readline, b"")
    assert any(b"ready" in line for line in told), "it ended before"
    yield socket
    stop(running)
    running.stderr.close()


def stop(running: subprocess.Popen[bytes]) -> None:
    running.terminate()
    assert running.wait(30) == 0


def as_bob(code: str, socket: Path) -> str:
    """What a program of BOB's prints."""
    run = subprocess.run(
        as_user.command(BOB, sys.executable, "-W", "error", "-c", code),
        cwd=as_user.REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": os.defpath, "HOME": "/", "HUBD_SOCKET": str(socket), "HUBD_TIMEOUT": "5"},
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_another_user_resolves_holds_and_reads_and_can_do_nothing_else(service: Path, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(archive()))
    told = as_bob(
        f"""
import fcntl, hubclient, os
from hubclient.contract.lease import Lease
from pathlib import Path
from random import Random

path = Path(hubclient.resolve({handle!r}))
assert hubclient.resolve({handle!r}) == str(path)
tree, cache = path.parent, path.parents[2]
assert (path / "saved_model.pb").read_bytes()
assert tree.stat().st_uid == {ALICE} and os.getuid() == {BOB}

def refused(action, *arguments):
    try:
        action(*arguments)
    except PermissionError:
        return
    raise AssertionError(f"{{action}} {{arguments}} went through")

refused(Lease.exclusive, str(tree / "lease"))
for directory in (path, tree, cache / "trees", cache / "handles", cache / "tfhub", cache):
    refused((directory / "planted").write_bytes, b"x")
refused(os.rename, path / "saved_model.pb", path / "other")
refused((path / "saved_model.pb").open, "ab")
for hidden in ("handles", "trees", "tfhub", "staging", "trash"):
    refused(os.listdir, cache / hidden)
key = hubclient.contract.handles.key({handle!r})
refused((cache / "handles" / (key + ".json")).read_bytes)
print(tree)
""",
        service,
    )
    lease = Path(told.strip()) / "lease"
    assert lease.exists()
    assert len(origin.asked("/m/1")) == 1


def test_two_users_share_one_download_and_the_second_needs_no_daemon(service: Path, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(archive()))
    first = as_bob(f"import hubclient; print(hubclient.resolve({handle!r}))", service)
    # A direct hit: the daemon's log would show a second answer, and the import of the daemon's client would show here.
    second = as_bob(
        f"import hubclient, sys; print(hubclient.resolve({handle!r})); assert 'hubclient.daemon' not in sys.modules",
        service,
    )
    assert first == second
    assert len(origin.asked("/m/1")) == 1


def test_another_users_lease_outlives_the_daemon_and_holds_back_eviction(service: Path, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(archive()))
    holder = subprocess.Popen(
        as_user.command(
            BOB, sys.executable, "-c", f"import hubclient; print(hubclient.resolve({handle!r}), flush=True); input()"
        ),
        cwd=as_user.REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PATH": os.defpath, "HOME": "/", "HUBD_SOCKET": str(service)},
    )
    assert holder.stdout is not None
    lease = str(Path(holder.stdout.readline().strip()).parent / "lease")
    os.kill(int(json.loads((service.parent / "cache" / "daemon.lock").read_text())["pid"]), signal.SIGTERM)
    wait_until(lambda: not service.exists())  # and with it the daemon's own leases

    def evict() -> None:
        Lease.exclusive(lease).release()

    with pytest.raises(BlockingIOError):
        uids.as_user(ALICE, evict)
    holder.communicate("\n")
    uids.as_user(ALICE, evict)


def test_another_users_daemon_on_a_socket_of_its_own_is_not_told_a_credential(service: Path, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(b"sign in", 401))
    with uids.directory_of(BOB) as home:
        netrc = Path(home, "netrc")
        netrc.write_text(f"machine 127.0.0.1:{origin.port} login bob password secret\n")
        netrc.chmod(0o600)
        os.chown(netrc, BOB, BOB)
        told = as_bob(
            f"""
import hubclient, os
os.environ["NETRC"] = {str(netrc)!r}
try:
    hubclient.resolve({handle!r})
except hubclient.UpstreamDenied as error:
    print(error)
""",
            service,
        )
    assert f"credentials are not sent over {service}: {service.parent} belongs to uid {ALICE}" in told
    assert [asked.headers.get("Authorization") for asked in origin.asked("/m/1")] == [None]


def test_a_users_delete_of_a_fetch_withdraws_that_user_and_an_administrators_all(service: Path, origin: Origin) -> None:
    slow = Answer(archive({**MODULE, "assets/random": Random(7).randbytes(1 << 20)}), gate_after_bytes=600_000)
    handle = origin.serve("/m/1", slow)

    def fetch() -> dict[str, Any]:
        (found,) = ask(service, "GET", "/v1/fetches")[1]["fetches"]
        return dict(found)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask, service, "POST", "/v1/resolve", {"handle": handle})
        origin.wait_until_asked("/m/1")
        wait_until(lambda: bool(fetch()["unpacked_bytes"]))  # from then on others may know of it
        id = fetch()["id"]
        code = f"""
            import hubclient
            from hubclient.daemon import reach
            daemon = reach()
            try:
                daemon.delete("/v1/fetches/{id}")
            except hubclient.AccessDenied as error:
                print(error.code)
            daemon.post("/v1/prefetch", {{"handles": [{handle!r}]}})
            print(daemon.delete("/v1/fetches/{id}")["withdrawn"])
        """
        assert as_bob(textwrap.dedent(code), service).split() == ["access-denied", "1"]
        wait_until(lambda: fetch()["waiters"] == 1)
        assert ask(service, "GET", f"/v1/fetches/{id}")[1]["waiters"] == 1
        assert ask(service, "DELETE", f"/v1/fetches/{id}") == (200, {"id": id, "withdrawn": 1})
        status, problem = waiting.result()
        assert (status, problem["code"]) == (409, "fetch-cancelled")
        wait_until(lambda: ask(service, "GET", f"/v1/fetches/{id}")[0] == 404)
        slow.gate.set()
        assert ask(service, "POST", "/v1/resolve", {"handle": handle})[1]["outcome"] == "fetched"

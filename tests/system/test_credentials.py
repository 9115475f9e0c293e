"""Credentials and a real daemon: whom they are shown to, and where they never turn up."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from tests.support.archives import archive
from tests.support.daemon import Daemon
from tests.support.hubctl import hubctl
from tests.support.origin import Answer, Asked, Origin

SECRET = "kN7-tell_nobody"
OWN = {"type": "bearer", "value": SECRET}
MACHINE = "machine-kN7"
ARCHIVE = archive()


def shown(origin: Origin, path: str) -> list[str | None]:
    return [asked.headers.get("Authorization") for asked in origin.asked(path)]


def behind(wanted: str, answer: Answer, status: int = 401) -> Callable[[Asked], Answer]:
    """What a path answers that wants to see this ``Authorization``."""
    return lambda asked: answer if asked.headers.get("Authorization") == wanted else Answer(b"sign in", status)


@pytest.fixture
def elsewhere() -> Iterator[Origin]:
    with Origin() as running:
        yield running


def test_a_callers_own_opens_its_handle_and_is_sent_with_that_request_alone(origin: Origin, daemon: Daemon) -> None:
    handle = origin.serve("/m/1", behind(f"Bearer {SECRET}", Answer(ARCHIVE)))
    assert daemon.resolve(handle)[1]["code"] == "upstream-denied"
    assert daemon.resolve(handle, credential={**OWN, "value": "another"})[1]["code"] == "upstream-denied"
    assert daemon.resolve(handle, credential=OWN)[0] == 200
    other = origin.serve("/m/2", Answer(ARCHIVE))
    assert daemon.resolve(other)[0] == 200
    assert shown(origin, "/m/1") == [None, "Bearer another", f"Bearer {SECRET}"]
    assert shown(origin, "/m/2") == [None]


def test_a_redirect_to_another_host_gets_no_credential_nor_does_the_way_back(
    origin: Origin, elsewhere: Origin, daemon: Daemon
) -> None:
    handle = origin.serve("/m/1", Answer(status=302, headers={"Location": origin.url("/moved")}))
    origin.serve("/moved", Answer(status=307, headers={"Location": elsewhere.url("/signed?a=b")}))
    elsewhere.serve("/signed", Answer(status=302, headers={"Location": origin.url("/back")}))
    origin.serve("/back", Answer(ARCHIVE))
    assert daemon.resolve(handle, credential=OWN)[0] == 200
    assert shown(origin, "/m/1") == shown(origin, "/moved") == [f"Bearer {SECRET}"]
    assert shown(elsewhere, "/signed") == shown(origin, "/back") == [None]


def test_a_credential_that_would_travel_in_the_open_is_refused(daemon: Daemon) -> None:
    status, problem = daemon.resolve("http://models.example.org/m/1", credential=OWN)
    assert (status, problem["code"]) == (403, "handle-forbidden")


def test_a_machines_credential_goes_to_its_host_on_the_way_and_is_read_again(
    origin: Origin, elsewhere: Origin, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text(f"hubd:{MACHINE}")
    file.chmod(0o600)
    config = f'[[credential]]\nhost = "127.0.0.1:{elsewhere.port}"\ntype = "basic"\nfile = "{file}"\n'
    elsewhere.serve("/m", Answer(ARCHIVE))
    with Daemon(tmp_path, config=config) as daemon:
        for version in (1, 2):
            redirect = Answer(status=302, headers={"Location": elsewhere.url("/m")})
            assert daemon.resolve(origin.serve(f"/m/{version}", redirect))[0] == 200
            file.write_text("hubd:rotated")
        elsewhere.serve("/denied", Answer(status=403))
        detail = daemon.resolve(elsewhere.url("/denied"))[1]["detail"]
        assert "this machine's credential for it was shown" in detail
    assert shown(origin, "/m/1") == [None]
    assert shown(elsewhere, "/m") == ["Basic aHViZDptYWNoaW5lLWtONw==", "Basic aHViZDpyb3RhdGVk"]


def test_a_client_asks_as_anybody_first_and_then_with_the_users_own(origin: Origin, daemon: Daemon) -> None:
    handle = origin.serve("/m/1", behind(f"Bearer {SECRET}", Answer(ARCHIVE), 404))
    denied = hubctl(daemon, "get", handle)
    assert (denied.returncode, "[upstream-not-found]" in denied.stderr) == (4, True)
    file = daemon.cache.parent / ".config/hubclient/credentials.toml"  # its directory is the home of hubctl
    file.parent.mkdir(parents=True)
    file.write_text(f'[[credential]]\nhost = "127.0.0.1:{origin.port}"\ntype = "bearer"\nvalue = "{SECRET}"\n')
    file.chmod(0o644)
    told = hubctl(daemon, "get", handle).stderr
    assert f"others can read or write it (mode 0644): chmod 0600 {file}" in told
    file.chmod(0o600)
    got = hubctl(daemon, "get", handle)
    assert (got.returncode, os.path.exists(got.stdout.strip())) == (0, True), got.stderr
    public = origin.serve("/m/2", Answer(ARCHIVE))
    assert hubctl(daemon, "get", public).returncode == 0
    # What is not there is remembered for a moment, for whoever asks as anybody.
    assert shown(origin, "/m/1")[0] is None
    assert shown(origin, "/m/1")[-1] == f"Bearer {SECRET}"
    assert shown(origin, "/m/2") == [None]


def test_a_file_that_others_can_read_ends_the_start_with_the_remedy(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET)
    file.chmod(0o644)
    config = f'[[credential]]\nhost = "models.lan"\ntype = "bearer"\nfile = "{file}"\n'
    daemon = Daemon(tmp_path, config=config)
    daemon.start(wait=False)
    assert daemon.wait() == 2
    assert f"hubd: [[credential]] for models.lan: {file} can be read or written by others" in daemon.log.read_text()
    assert "chmod it to 0600" in daemon.log.read_text()


def test_no_log_answer_or_file_of_the_cache_has_a_credential(origin: Origin, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(MACHINE)
    file.chmod(0o600)
    config = '[log]\nlevel = "debug"\n'
    config += f'[[credential]]\nhost = "127.0.0.1:{origin.port}"\ntype = "bearer"\nfile = "{file}"\n'
    good = origin.serve("/good/1", Answer(ARCHIVE))
    denied = origin.serve("/denied/1", Answer(b"no", 403))
    broken = origin.serve("/broken/1", Answer(b"no archive"))
    loop = origin.serve("/loop/1", Answer(status=302, headers={"Location": "/loop/1"}))
    big = archive({"saved_model.pb": b"", "big": Random(1).randbytes(3_000_000)})
    cut = origin.serve("/cut/1", Answer(big, etag='"e"', ranges=True, cut_after_bytes=len(big) // 3))
    waiting = Answer(ARCHIVE, gate_after_bytes=100)
    slow = origin.serve("/slow/1", waiting)
    told = []
    with Daemon(tmp_path, config=config) as daemon:
        for handle in (good, denied, broken, loop, cut, "https://127.0.0.1:1/unreachable/1", "no handle"):
            told.append(daemon.resolve(handle, credential=OWN))
            told.append(daemon.resolve(handle))
        for wrong in ({"type": SECRET, "value": "x"}, {**OWN, "value": f"{SECRET}\n"}, {**OWN, SECRET: 1}, SECRET):
            status, problem = daemon.resolve(good, credential=wrong)
            assert (status, problem["code"]) == (400, "request-invalid")
            told += [] if SECRET in wrong else [problem]  # a name of a field is none of a credential
        with daemon.events(slow, credential=OWN) as events:
            told.append(next(events))
            origin.wait_until_asked("/slow/1")
            told += [daemon.request("GET", f"/v1/{name}") for name in ("fetches", "status", "modules")]
            waiting.gate.set()
            told += list(events)
        assert daemon.stop() == 0
        log = daemon.log.read_text()
    assert {status for status, _ in told[:2]} == {200}
    assert f"Bearer {SECRET}" in shown(origin, "/good/1") + shown(origin, "/cut/1")
    kept = [path for path in daemon.cache.rglob("*") if path.is_file()]
    assert any(path.name == "transfer.json" for path in kept)
    texts = [log, repr(told), *(path.read_bytes().decode("latin-1") for path in kept), *map(str, kept)]
    assert "DEBUG" in log
    assert not [text for text in texts if SECRET in text or MACHINE in text]

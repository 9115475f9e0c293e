"""Handles of Kaggle, against a scripted origin that answers as Kaggle's API does."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.archives import archive
from tests.support.daemon import Daemon
from tests.support.hubctl import hubctl
from tests.support.origin import Answer, Asked, Origin

MODEL = "google/bert/tensorFlow2/en"
API = f"/api/v1/models/{MODEL}"
OWN = {"type": "basic", "value": "alice:key"}
BASIC = f"Basic {b64encode(b'alice:key').decode()}"


@pytest.fixture
def storage() -> Iterator[Origin]:
    """Where the archives lie: behind signed URLs, on a host of their own."""
    with Origin() as running:
        running.serve("/signed", Answer(archive(), etag='"v"'))
        yield running


@pytest.fixture
def kaggle(origin: Origin, storage: Origin, tmp_path: Path) -> Iterator[Daemon]:
    origin.serve(f"{API}/3/download", Answer(status=302, headers={"Location": storage.url("/signed?sig=x")}))
    with Daemon(tmp_path, config=f'[kaggle]\nurl = "{origin.url("/")}"\n') as running:
        yield running


def wanting(answer: Answer) -> Callable[[Asked], Answer]:
    return lambda asked: answer if asked.headers.get("Authorization") == BASIC else Answer(b"consent first", 403)


def shown(asked: list[Asked]) -> list[str | None]:
    return [one.headers.get("Authorization") for one in asked]


def test_a_version_comes_from_the_download_api(origin: Origin, storage: Origin, kaggle: Daemon) -> None:
    status, resolved = kaggle.resolve(f"KAGGLE:{MODEL}/3")
    assert (status, resolved["handle"], resolved["immutable"]) == (200, f"kaggle:{MODEL}/3", True)
    assert [asked.target for asked in origin.asked(f"{API}/3/download")] == [f"{API}/3/download"]
    assert kaggle.resolve(f"kaggle:{MODEL}/3")[1]["outcome"] == "hit"
    assert len(storage.asked("/signed")) == 1


def test_without_a_version_it_is_the_latest_and_that_is_asked_for_again(
    origin: Origin, storage: Origin, kaggle: Daemon
) -> None:
    origin.serve(f"{API}/get", Answer(b'{"id": 1, "versionNumber": 3}'))
    status, resolved = kaggle.resolve(f"kaggle:{MODEL}")
    assert (status, resolved["immutable"]) == (200, False)
    assert kaggle.resolve(f"kaggle:{MODEL}", refresh=True)[1]["outcome"] == "hit"
    assert storage.asked("/signed")[1].headers["If-None-Match"] == '"v"'


def test_a_credential_goes_to_the_api_and_not_to_the_storage(origin: Origin, storage: Origin, kaggle: Daemon) -> None:
    origin.serve(f"{API}/get", wanting(Answer(b'{"versionNumber": 4}')))
    signed = Answer(status=302, headers={"Location": storage.url("/signed")})
    origin.serve(f"{API}/4/download", wanting(signed))
    assert kaggle.resolve(f"kaggle:{MODEL}")[1]["code"] == "upstream-denied"
    assert kaggle.resolve(f"kaggle:{MODEL}", credential=OWN)[0] == 200
    assert shown(origin.asked(f"{API}/get")) == [None, BASIC]
    assert shown(origin.asked(f"{API}/4/download")) == [BASIC]
    assert shown(storage.asked("/signed")) == [None]


def test_hubctl_shows_what_kaggles_own_programs_would(origin: Origin, kaggle: Daemon) -> None:
    handle = f"kaggle:{MODEL}/5"
    origin.serve(f"{API}/5/download", wanting(Answer(archive())))
    denied = hubctl(kaggle, "get", handle)
    assert (denied.returncode, "[upstream-denied]" in denied.stderr) == (1, True)
    environ = {"KAGGLE_USERNAME": "alice", "KAGGLE_KEY": "key"}
    got = hubctl(kaggle, "get", handle, **environ)
    assert (got.returncode, got.stdout) == (0, hubctl(kaggle, "get", handle, **environ).stdout), got.stderr
    assert shown(origin.asked(f"{API}/5/download")) == [None, None, BASIC]


def test_a_denial_says_what_to_do_at_kaggle_wherever_its_api_is(origin: Origin, kaggle: Daemon) -> None:
    origin.serve(f"{API}/4/download", Answer(status=403))
    assert "KAGGLE_API_TOKEN" in hubctl(kaggle, "get", f"kaggle:{MODEL}/4").stderr


def test_what_tells_no_version_is_an_error_that_asks_for_one(origin: Origin, kaggle: Daemon) -> None:
    for told in (
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"versionNumber": "3"}',
        b'{"versionNumber": true}',
        b'{"versionNumber": 0}',
        b'{"versionNumber": 1e2}',
        b"[" * 100_000,
        b'{"versionNumber": 3, "x": "' + b"x" * (1 << 20) + b'"}',
    ):
        origin.serve(f"{API}/get", Answer(told))
        problem = kaggle.resolve(f"kaggle:{MODEL}")[1]
        assert (problem["code"], "name one in the handle" in problem["detail"]) == ("upstream-unavailable", True)


def test_kaggle_is_a_host_like_others_for_the_guard(tmp_path: Path) -> None:
    config = '[network]\nallowed_hosts = ["tfhub.dev"]\n'
    with Daemon(tmp_path, config=config) as daemon:
        problem = daemon.resolve(f"kaggle:{MODEL}/3")[1]
    assert (problem["code"], "www.kaggle.com" in problem["detail"]) == ("handle-forbidden", True)

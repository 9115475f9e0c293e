"""Prefetch files of a real daemon: dropped in, mended, pinned over a restart, removed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hubclient.contract.handles import canonical, key
from tests.support.archives import MODULE, archive
from tests.support.daemon import Daemon
from tests.support.origin import Answer, Origin
from tests.support.service import Service
from tests.support.uids import ALICE, BOB, directory_of, needs_root
from tests.support.waiting import wait_until

MB = 1_000_000


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "prefetch.d"
    path.mkdir(mode=0o755)
    return path


def config(directory: Path, cache: str = "") -> str:
    return f'[cache]\nmin_free = "0B"\n{cache}\n[prefetch]\ndir = "{directory}"\n'


@pytest.fixture
def daemon(tmp_path: Path, directory: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path, config=config(directory)) as running:
        yield running


def write(directory: Path, name: str, text: str) -> None:
    """By a rename, as editors and package managers do."""
    staged = directory / f".{name}.new"
    staged.write_text(text)
    staged.chmod(0o644)
    staged.rename(directory / name)


def files(daemon: Daemon) -> dict[str, Any]:
    return {file["name"]: file for file in daemon.request("GET", "/v1/status")[1]["prefetch"]}


def module(daemon: Daemon, handle: str) -> Any:
    return daemon.request("GET", f"/v1/modules/{key(canonical(handle))}")[1]


def is_ok(daemon: Daemon, name: str) -> bool:
    return bool(files(daemon).get(name, {}).get("state") == "ok")


def test_dropping_a_file_in_starts_it_and_removing_it_unpins(daemon: Daemon, directory: Path, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(archive(MODULE)))
    write(directory, "nightly.toml", f'handles = ["{handle}"]\npin = true\nrefresh = "1d"')
    wait_until(lambda: is_ok(daemon, "nightly.toml"))
    assert (module(daemon, handle)["pinned"], module(daemon, handle)["pinned_by"]) == (True, ["nightly.toml"])
    wait_until(lambda: daemon.request("GET", "/v1/status")[1]["cache"]["pinned_bytes"] > 0)
    status, problem = daemon.request("DELETE", f"/v1/modules/{key(canonical(handle))}")
    assert (status, problem["code"]) == (409, "in-use")
    assert "nightly.toml" in problem["detail"]
    path = f"/v1/modules/{key(canonical(handle))}/pin"
    assert daemon.request("PUT", path)[1]["pinned"]  # an administrator's own
    (directory / "nightly.toml").unlink()
    wait_until(lambda: module(daemon, handle)["pinned_by"] == [])
    assert module(daemon, handle)["pinned"]
    assert not daemon.request("DELETE", path)[1]["pinned"]
    assert files(daemon) == {}
    assert daemon.stop() == 0


def test_a_broken_file_is_told_and_harms_nothing(daemon: Daemon, directory: Path, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(archive(MODULE)))
    write(directory, "bad.toml", f'handels = ["{handle}"]')
    write(directory, "good.toml", f'handles = ["{handle}"]')
    wait_until(lambda: is_ok(daemon, "good.toml"))
    wait_until(lambda: "bad.toml" in files(daemon))
    assert files(daemon)["bad.toml"]["state"] == "broken"
    assert files(daemon)["bad.toml"]["problem"] == 'unknown key "handels"; did you mean "handles"?; ' + (
        "it wants no module: state handles, [[module]]s or a lock"
    )
    assert "WARNING hubd.prefetching.keeper: prefetch file bad.toml is broken" in daemon.log.read_text()
    write(directory, "bad.toml", f'handles = ["{handle}"]')
    wait_until(lambda: is_ok(daemon, "bad.toml"))


def test_pins_are_known_before_anything_is_evicted(tmp_path: Path, directory: Path, origin: Origin) -> None:
    handles = {
        name: origin.serve(f"/{name}/1", Answer(archive({**MODULE, "assets/noise": os.urandom(MB)}))) for name in "abc"
    }
    with Daemon(tmp_path, config=config(directory)) as daemon:
        write(directory, "a.toml", f'handles = ["{handles["a"]}"]\npin = true')
        for handle in handles.values():
            assert daemon.resolve(handle)[0] == 200
        daemon.stop()
        for age, handle in zip((3000, 2000, 1000), handles.values(), strict=True):
            record = daemon.cache / "handles" / f"{key(canonical(handle))}.json"
            os.utime(record, (os.stat(record).st_mtime - age,) * 2)
        daemon.config.write_text(config(directory, 'max_size = "5MB"') + "[network]\n")
        daemon.start()
        assert (
            daemon.resolve(origin.serve("/d/1", Answer(archive({**MODULE, "assets/noise": os.urandom(MB)}))))[0] == 200
        )
        left = {entry["handle"] for entry in daemon.request("GET", "/v1/modules")[1]["modules"]}
        assert handles["a"] in left
        assert handles["b"] not in left
        assert daemon.stop() == 0


def test_a_directory_can_be_named_while_the_daemon_serves(tmp_path: Path, directory: Path, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(archive(MODULE)))
    write(directory, "a.toml", f'handles = ["{handle}"]')
    with Daemon(tmp_path, config=config(tmp_path / "nowhere")) as daemon:
        assert any("nowhere is no directory" in text for text in daemon.request("GET", "/v1/status")[1]["warnings"])
        assert files(daemon) == {}
        daemon.config.write_text(config(directory) + "[network]\n")
        wait_until(lambda: is_ok(daemon, "a.toml"))
        assert daemon.request("GET", "/v1/status")[1]["warnings"] == []


def test_what_nobody_waits_for_is_a_prefetch(daemon: Daemon, directory: Path, origin: Origin) -> None:
    slow = Answer(archive(MODULE), gate_after_bytes=10)
    write(directory, "a.toml", f'handles = ["{origin.serve("/m/1", slow)}"]')
    origin.wait_until_asked("/m/1")
    (fetch,) = daemon.request("GET", "/v1/fetches")[1]["fetches"]
    assert fetch["is_prefetch"]
    with daemon.events(fetch["handle"]) as events:
        next(events)
        (fetch,) = daemon.request("GET", "/v1/fetches")[1]["fetches"]
        assert not fetch["is_prefetch"]
        slow.gate.set()
        assert list(events)[-1]["event"] == "resolved"
    wait_until(lambda: is_ok(daemon, "a.toml"))
    assert daemon.stop() == 0


@needs_root
def test_what_is_wrong_with_a_file_is_told_to_administrators_alone() -> None:
    with directory_of(ALICE) as home:
        directory = Path(home, "prefetch.d")
        directory.mkdir()
        write(directory, "a.toml", 'handles = ["https://h.example/secret/1", 7]')
        with Service(Path(home), f'[prefetch]\ndir = "{directory}"\n') as service:
            wait_until(lambda: bool(service.request(0, "GET", "/v1/status")[1]["prefetch"]))
            told = {
                uid: service.request(uid, "GET", "/v1/status")[1]["prefetch"][0] for uid in (os.geteuid(), ALICE, BOB)
            }
            assert "number 2" in told[0]["problem"]
            assert told[ALICE] == told[0]
            assert told[BOB] == told[0] | {"problem": None}
            assert service.stop() == 0

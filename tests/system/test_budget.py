"""The quota on a real daemon: kept while fetches run, by eviction of what nobody uses, with errors that say what holds
the space."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from hubclient.contract import handles
from hubclient.contract.lease import Lease
from hubd.store.ledger import disk_bytes
from tests.support.archives import MODULE, archive
from tests.support.daemon import Daemon
from tests.support.origin import Answer, Origin
from tests.support.waiting import wait_until

MB = 1_000_000


def module(name: str, size_bytes: int = MB) -> bytes:
    """An archive that unpacks to about so many bytes and is as large itself."""
    return archive({**MODULE, "assets/noise": name.encode() + os.urandom(size_bytes)})


def on_disk(daemon: Daemon) -> int:
    """What `du` finds of trees, staging and trash."""
    return sum(
        disk_bytes(entry.path)
        for directory in ("trees", "staging", "trash")
        for entry in os.scandir(daemon.cache / directory)
    )


def cached(daemon: Daemon) -> set[str]:
    return {entry["handle"].split("/")[-2] for entry in daemon.request("GET", "/v1/modules")[1]["modules"]}


def fetches(daemon: Daemon) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = daemon.request("GET", "/v1/fetches")[1]["fetches"]
    return found


def key(handle: str) -> str:
    return handles.key(handles.canonical(handle))


def used_at(daemon: Daemon, handle: str, age_seconds: float) -> None:
    """As if the module had last been used so long ago; the daemon takes it in when it next starts."""
    record = daemon.cache / "handles" / f"{key(handle)}.json"
    then = os.stat(record).st_mtime - age_seconds
    os.utime(record, (then, then))


def without_grace(daemon: Daemon) -> None:
    """The daemon itself holds what it answered for 10 s; a restart ends that."""
    daemon.stop()
    daemon.start()


def config(max_size: str, more: str = "") -> str:
    return f'[cache]\nmin_free = "0B"\nmax_size = "{max_size}"\n{more}'


def test_the_least_recently_used_makes_way_and_the_quota_holds(tmp_path: Path, origin: Origin) -> None:
    with Daemon(tmp_path, config=config("8MB", 'high_water = "100%"\nlow_water = "100%"\n')) as daemon:
        handle = {name: origin.serve(f"/{name}/1", Answer(module(name))) for name in "abcdef"}
        for number, name in enumerate("abcde"):
            assert daemon.resolve(handle[name])[0] == 200
            used_at(daemon, handle[name], 1000 - number)
        without_grace(daemon)
        assert daemon.resolve(handle["a"])[1]["outcome"] == "hit"  # now b is the least recently used
        for name in "xyz":
            assert daemon.resolve(origin.serve(f"/{name}/1", Answer(module(name))))[0] == 200
            assert daemon.request("GET", "/v1/status")[1]["cache"]["used_bytes"] <= 8 * MB
        assert on_disk(daemon) <= 8 * MB
        left = cached(daemon)
        assert {"a", "x", "y", "z"} <= left
        assert "b" not in left
        status = daemon.request("GET", "/v1/status")[1]
        assert status["counters"]["evicted"] == 8 - len(left)
        assert daemon.resolve(handle["b"])[1]["outcome"] == "fetched"


def test_accounted_bytes_are_those_of_du(daemon: Daemon, origin: Origin) -> None:
    with ThreadPoolExecutor(4) as pool:
        urls = [origin.serve(f"/{name}/1", Answer(module(name, 100_000))) for name in "abcdefgh"]
        assert {status for status, _ in pool.map(daemon.resolve, urls)} == {200}
    daemon.request("DELETE", f"/v1/modules/{key(urls[0])}")

    def accounted() -> bool:
        return bool(daemon.request("GET", "/v1/status")[1]["cache"]["used_bytes"] == on_disk(daemon))

    wait_until(accounted)
    without_grace(daemon)
    wait_until(lambda: daemon.request("GET", "/v1/status")[1]["cache"]["scanned"])
    wait_until(accounted)


def test_when_nothing_may_go_the_error_says_what_holds_the_space(tmp_path: Path, origin: Origin) -> None:
    with Daemon(tmp_path, config=config("5MB")) as daemon:
        pinned = origin.serve("/pinned/1", Answer(module("pinned")))
        leased = origin.serve("/leased/1", Answer(module("leased")))
        daemon.resolve(pinned)
        assert daemon.request("PUT", f"/v1/modules/{key(pinned)}/pin")[1]["pinned"]
        answer = daemon.resolve(leased)[1]
        slow = Answer(module("slow"), gate_after_bytes=1000)
        with Lease.share(str(Path(answer["path"]).parent / "lease")), ThreadPoolExecutor(1) as pool:
            without_grace(daemon)
            assert daemon.request("POST", "/v1/uses", {"keys": [key(leased)]}) == (202, {"counted": 1})
            fetching = pool.submit(daemon.resolve, origin.serve("/slow/1", slow))
            origin.wait_until_asked("/slow/1")
            wait_until(lambda: daemon.request("GET", "/v1/status")[1]["cache"]["in_flight_bytes"] > 0)
            status, problem = daemon.resolve(origin.serve("/more/1", Answer(module("more", 2 * MB))))
            slow.gate.set()
            assert fetching.result()[0] == 200
        assert (status, problem["code"]) == (507, "cache-full")
        for part in (
            "2.0 MB",
            "1.0 MB are pinned",
            "1.0 MB leased",
            f"by uid {os.geteuid()}",
            "in flight",
            "cache.max_size",
        ):
            assert part in problem["detail"], problem["detail"]
        assert cached(daemon) == {"pinned", "leased", "slow"}
        assert os.listdir(daemon.cache / "staging") == []


def test_an_archive_that_could_never_fit_is_refused_at_once(tmp_path: Path, origin: Origin) -> None:
    with Daemon(tmp_path, config=config("2MB")) as daemon:
        kept = origin.serve("/kept/1", Answer(module("kept", 100_000)))
        daemon.resolve(kept)
        without_grace(daemon)
        never = Answer(module("large", 3 * MB), gate_after_bytes=10)  # it would wait for ever
        status, problem = daemon.resolve(origin.serve("/large/1", never))
        assert (status, problem["code"]) == (413, "archive-too-large")
        assert cached(daemon) == {"kept"}  # nothing went for it
        # A small archive that announces a large file is found out when its header is read.
        bomb = archive({**MODULE, "assets/zeros": bytes(3 * MB)})
        assert len(bomb) < 100_000
        status, problem = daemon.resolve(origin.serve("/bomb/1", Answer(bomb)))
        assert (status, problem["code"]) == (413, "archive-too-large")
        assert cached(daemon) == {"kept"}


def test_an_archive_of_unknown_length_is_reserved_in_steps_and_ends_at_the_quota(
    tmp_path: Path, origin: Origin
) -> None:
    with Daemon(tmp_path, config=config("4MB")) as daemon:
        assert daemon.resolve(origin.serve("/a/1", Answer(module("a"), chunked=True)))[0] == 200
        without_grace(daemon)
        status, problem = daemon.resolve(origin.serve("/b/1", Answer(module("b", 6 * MB), chunked=True)))
        assert (status, problem["code"]) == (413, "archive-too-large")
        assert on_disk(daemon) <= 4 * MB


def test_what_a_server_announces_and_never_sends_costs_nobody_a_module(tmp_path: Path, origin: Origin) -> None:
    with Daemon(tmp_path, config='[cache]\nmin_free = "0B"\nmax_size = "8MB"\nhigh_water = "100%"\n') as daemon:
        for name in ("a", "b"):
            assert daemon.resolve(origin.serve(f"/{name}/1", Answer(module(name, 2 * MB))))[0] == 200
        without_grace(daemon)
        answer = Answer(module("c"), announced_bytes=6 * MB, gate_after_bytes=1000)
        handle = origin.serve("/c/1", answer)
        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(daemon.resolve, handle)
            wait_until(lambda: [one["received_bytes"] for one in fetches(daemon)] == [1000])
            assert cached(daemon) == {"a", "b"}
            answer.gate.set()
            assert asking.result()[0] >= 500
        # What really comes goes before what is old, as ever.
        assert daemon.resolve(origin.serve("/d/1", Answer(module("d", 2 * MB))))[0] == 200
        assert cached(daemon) == {"b", "d"}


def test_what_comes_of_what_was_announced_never_takes_more_than_there_is(tmp_path: Path, origin: Origin) -> None:
    with Daemon(tmp_path, config='[cache]\nmin_free = "0B"\nmax_size = "8MB"\nhigh_water = "100%"\n') as daemon:
        for name in ("a", "b"):
            assert daemon.resolve(origin.serve(f"/{name}/1", Answer(module(name, 2 * MB))))[0] == 200
        without_grace(daemon)
        answer = Answer(module("c", 3 * MB), gate_after_bytes=2_900_000)
        handle = origin.serve("/c/1", answer)
        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(daemon.resolve, handle)
            wait_until(lambda: [one["received_bytes"] for one in fetches(daemon)] == [2_900_000])
            assert on_disk(daemon) <= 8 * MB
            answer.gate.set()
            assert asking.result()[0] == 200
        assert on_disk(daemon) <= 8 * MB


def test_past_the_high_water_mark_modules_go_ahead_of_need(tmp_path: Path, origin: Origin) -> None:
    with Daemon(tmp_path, config=config("10MB")) as daemon:
        urls = [origin.serve(f"/{name}/1", Answer(module(name))) for name in "abcdefgh"]
        for number, url in enumerate(urls):
            assert daemon.resolve(url)[0] == 200
            used_at(daemon, url, 1000 - number)
        daemon.stop()
        marks = 'high_water = "50%"\nlow_water = "40%"\n'
        daemon.config.write_text(config("10MB", marks))
        daemon.start()
        # The next fetch passes the mark; what goes is not needed for it.
        daemon.resolve(origin.serve("/more/1", Answer(module("more"))))
        wait_until(lambda: daemon.request("GET", "/v1/status")[1]["cache"]["used_bytes"] <= 4 * MB)
        assert {"h", "more"} <= cached(daemon)


def test_what_the_disk_must_keep_free_stays_free(tmp_path: Path, origin: Origin) -> None:
    disk = os.statvfs(tmp_path)
    keep = f'[cache]\nmin_free = "{disk.f_bavail * disk.f_frsize * 2}B"\n'
    with Daemon(tmp_path, config=keep) as daemon:
        status, problem = daemon.resolve(origin.serve("/a/1", Answer(module("a"))))
        assert (status, problem["code"]) == (507, "cache-full")
        assert "cache.min_free" in problem["detail"]
        (warning,) = daemon.request("GET", "/v1/status")[1]["warnings"]
        assert warning.startswith("the disk is full: ")


def test_status_warns_when_pins_leave_no_room(tmp_path: Path, origin: Origin) -> None:
    with Daemon(tmp_path, config=config("10MB")) as daemon:
        url = origin.serve("/a/1", Answer(module("a")))
        daemon.resolve(url)
        assert daemon.request("PUT", f"/v1/modules/{key(url)}/pin")[0] == 200
        assert daemon.request("GET", "/v1/status")[1]["warnings"] == []
        daemon.stop()
        daemon.config.write_text(config("1100KB"))
        daemon.start()
        wait_until(lambda: daemon.request("GET", "/v1/status")[1]["warnings"] != [])  # the cache is looked through
        (warning,) = daemon.request("GET", "/v1/status")[1]["warnings"]
        assert "pinned, and little is left" in warning


def test_four_handles_of_one_content_at_once_end_with_one_tree_and_four_records(daemon: Daemon, origin: Origin) -> None:
    data = module("same", 100_000)
    answers = [Answer(data, gate_after_bytes=1000) for _ in range(4)]
    urls = [origin.serve(f"/{number}/m/1", answer) for number, answer in enumerate(answers)]
    with ThreadPoolExecutor(4) as pool:
        fetching = [pool.submit(daemon.resolve, url) for url in urls]
        for number in range(4):
            origin.wait_until_asked(f"/{number}/m/1")
        for answer in answers:
            answer.gate.set()
        results = [future.result() for future in fetching]
    assert {status for status, _ in results} == {200}
    assert len(os.listdir(daemon.cache / "trees")) == 1
    modules = daemon.request("GET", "/v1/modules")[1]["modules"]
    assert len(modules) == 4
    assert all(sorted([entry["handle"], *entry["shared_with"]]) == sorted(urls) for entry in modules)
    status, removed = daemon.request("DELETE", f"/v1/modules/{key(urls[0])}")
    assert (status, removed["freed_bytes"], sorted(removed["shared_with"])) == (200, 0, sorted(urls[1:]))
    assert daemon.resolve(urls[1])[1]["outcome"] == "hit"
    for url in urls[1:]:
        assert daemon.request("DELETE", f"/v1/modules/{key(url)}")[0] == 200
    assert os.listdir(daemon.cache / "trees") == []
    assert os.listdir(daemon.cache / "handles") == []


def test_a_leased_module_is_removed_by_force_alone(daemon: Daemon, origin: Origin) -> None:
    url = origin.serve("/a/1", Answer(module("a", 1000)))
    path = daemon.resolve(url)[1]["path"]
    with Lease.share(str(Path(path).parent / "lease")):
        status, problem = daemon.request("DELETE", f"/v1/modules/{key(url)}")
        assert (status, problem["code"]) == (409, "in-use")
        assert os.path.exists(path)
        assert daemon.request("DELETE", f"/v1/modules/{key(url)}?force=true")[0] == 200
    assert not os.path.exists(path)
    assert daemon.request("DELETE", f"/v1/modules/{key(url)}")[0] == 404
    assert daemon.request("DELETE", "/v1/modules/nonsense")[0] == 400
    assert daemon.request("DELETE", f"/v1/modules/{key(url)}?force=perhaps")[0] == 400


def test_pins_last_over_restarts_and_hold_back_prune(daemon: Daemon, origin: Origin) -> None:
    urls = {name: origin.serve(f"/{name}/1", Answer(module(name, 1000))) for name in "ab"}
    for url in urls.values():
        daemon.resolve(url)
    assert daemon.request("PUT", f"/v1/modules/{key(urls['a'])}/pin")[1]["pinned"]
    without_grace(daemon)
    lines = daemon.lines("POST", "/v1/prune", {"to_size_bytes": 0})
    assert [line["event"] for line in lines] == ["pruned", "done"]
    assert lines[0]["handles"] == [urls["b"]]
    assert lines[-1]["modules"] == 1
    assert lines[-1]["pinned_bytes"] == lines[-1]["used_bytes"] > 0
    assert cached(daemon) == {"a"}
    assert not daemon.request("DELETE", f"/v1/modules/{key(urls['a'])}/pin")[1]["pinned"]
    assert daemon.request("PUT", f"/v1/modules/{key(urls['b'])}/pin")[0] == 404
    assert daemon.request("POST", "/v1/prune", {})[0] == 400


def test_the_listing_is_filtered_by_the_daemon(daemon: Daemon, origin: Origin) -> None:
    small = origin.serve("/small/1", Answer(module("small", 1000)))
    large = origin.serve("/large/latest", Answer(module("large", MB)))
    for url in (small, large):
        daemon.resolve(url)
    daemon.request("PUT", f"/v1/modules/{key(small)}/pin")

    def found(*filters: str) -> set[str]:
        query = "&".join("filter=" + one.replace(">", "%3E").replace("<", "%3C") for one in filters)
        return {entry["handle"] for entry in daemon.request("GET", f"/v1/modules?{query}")[1]["modules"]}

    assert found("size>500KB") == {large}
    assert found("size<=500KB") == {small}
    assert found("used>1h") == set()
    assert found("used<1h", "pinned=true") == {small}
    assert found("immutable=false") == {large}
    assert found("handle~small") == {small}
    assert found("leased=true") == {small, large}  # the daemon's own grace
    for nonsense in ("size", "size>", "size>1", "age>1h", "pinned>1", "pinned=1", "handle~", ">1"):
        status, problem = daemon.request("GET", "/v1/modules?filter=" + nonsense.replace(">", "%3E"))
        assert (status, problem["code"]) == (400, "request-invalid"), nonsense
        assert "size>1GB" in problem["detail"] or "unit" in problem["detail"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 12 MB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m,mode=0700", "tmpfs", place], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr}")
    yield place
    subprocess.run(["umount", "--lazy", place], check=True)


@pytest.mark.parametrize("phase", ["transfer", "unpacking"])
def test_a_disk_that_others_fill_in_the_middle_is_disk_full_and_survived(
    small_disk: Path, origin: Origin, phase: str
) -> None:
    zeros = {"assets/zeros": bytes(6 * MB)} if phase == "unpacking" else {}
    noise = os.urandom(400_000 if phase == "unpacking" else 4 * MB)
    data = archive({**MODULE, **zeros, "assets/noise": noise})
    slow = Answer(data, gate_after_bytes=len(data) // 2)
    url = origin.serve("/a/1", slow)
    with Daemon(small_disk) as daemon, ThreadPoolExecutor(1) as pool:
        before = daemon.resolve(origin.serve("/before/1", Answer(module("before", 1000))))[1]
        fetching = pool.submit(daemon.resolve, url)
        origin.wait_until_asked("/a/1")
        # All of it is set aside by now, so what fails is the disk and not the quota.
        aside = len(data) + (6 * MB if phase == "unpacking" else 4 * MB)
        wait_until(lambda: daemon.request("GET", "/v1/status")[1]["cache"]["in_flight_bytes"] >= aside)
        filler = small_disk / "filler"
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(64 * 1024))
        slow.gate.set()
        status, problem = fetching.result()
        assert (status, problem["code"]) == (507, "disk-full")
        assert daemon.resolve(before["handle"])[1]["outcome"] == "hit"
        filler.unlink()
        status, answer = daemon.resolve(url)
        assert (status, answer.get("outcome")) == (200, "fetched"), answer
        assert "Traceback" not in daemon.log.read_text()

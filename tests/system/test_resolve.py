"""A handle becomes the path of a whole module, downloaded once, by a real daemon from a real origin."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import resource
import signal
import socket
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from hubclient.contract import handles
from hubclient.contract.lease import Lease
from tests.support.archives import archive
from tests.support.daemon import Daemon
from tests.support.origin import Answer, Asked, Origin
from tests.support.waiting import wait_until

MODULE = {"saved_model.pb": b"\x08\x01\x12\x00", "variables/variables.index": b"index" * 1000}
ARCHIVE = archive(MODULE)
OTHER_ARCHIVE = archive({**MODULE, "assets/vocab.txt": b"the of and"})


def staged(daemon: Daemon) -> list[str]:
    return os.listdir(daemon.cache / "staging")


def test_a_module_is_fetched_whole_and_read_only(shared_daemon: Daemon, origin: Origin) -> None:
    status, answer = shared_daemon.resolve(origin.serve("/m/1", Answer(ARCHIVE)))
    assert (status, answer["outcome"]) == (200, "fetched")
    assert answer["digest"] == hashlib.sha256(ARCHIVE).hexdigest()
    module = Path(answer["path"])
    files = {str(file.relative_to(module)): file.read_bytes() for file in module.rglob("*") if file.is_file()}
    assert files == MODULE
    assert answer["size_bytes"] == sum(map(len, MODULE.values()))
    modes = {stat.S_IMODE(file.stat().st_mode) for file in module.rglob("*") if file.is_file()}
    assert modes == {0o644}
    assert staged(shared_daemon) == []


def test_the_request_is_the_protocols(shared_daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(ARCHIVE)) + "?token=a%20b"
    assert shared_daemon.resolve(handle)[0] == 200
    (asked,) = origin.asked("/m/1")
    assert asked.target == "/m/1?token=a%20b&tf-hub-format=compressed"
    assert asked.headers["Accept-Encoding"] == "identity"
    assert "Cookie" not in asked.headers


def test_the_second_time_is_a_hit_under_any_spelling(shared_daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(ARCHIVE))
    first = shared_daemon.resolve(handle)[1]
    second = shared_daemon.resolve(handle.upper().replace("/M/", "/m/") + "?tf-hub-format=compressed#x")[1]
    assert second["outcome"] == "hit"
    assert second["path"] == first["path"]
    assert len(origin.asked("/m/1")) == 1


def test_both_views_point_to_the_tree(shared_daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(ARCHIVE))
    answer = shared_daemon.resolve(handle)[1]
    assert os.readlink(shared_daemon.cache / "handles" / answer["key"]) == f"../trees/{answer['digest']}"
    view = shared_daemon.cache / "tfhub" / handles.spelling_name(handle)
    assert os.path.realpath(view) == os.path.realpath(answer["path"])


def test_views_that_someone_removed_come_back(daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(ARCHIVE))
    answer = daemon.resolve(handle)[1]
    view = daemon.cache / "handles" / answer["key"]
    view.unlink()
    assert daemon.resolve(handle)[1]["outcome"] == "hit"
    assert daemon.stop() == 0
    assert view.is_symlink()


def test_one_download_for_all_who_ask_at_once(shared_daemon: Daemon, origin: Origin) -> None:
    slow = Answer(ARCHIVE, gate_after_bytes=10)
    handle = origin.serve("/m/1", slow)
    with ThreadPoolExecutor(32) as pool:
        asking = [pool.submit(shared_daemon.resolve, handle) for _ in range(32)]
        wait_for_waiters(shared_daemon, 32)
        slow.gate.set()
        outcomes = sorted(future.result()[1]["outcome"] for future in asking)
    assert outcomes == ["fetched"] + ["joined"] * 31
    assert len(origin.asked("/m/1")) == 1


def test_a_thousand_clients_cost_one_get_and_little_memory(daemon: Daemon, origin: Origin) -> None:
    slow = Answer(ARCHIVE, gate_after_bytes=10)
    handle = origin.serve("/m/1", slow)
    body = json.dumps({"handle": handle}).encode()
    request = b"POST /v1/resolve HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) for _ in range(1000)]
        for client in clients:
            client.connect(str(daemon.socket))
            client.sendall(request % (len(body), body))
        wait_for_waiters(daemon, 1000)
        memory = Path(f"/proc/{daemon.pid}/status").read_text().split("VmHWM:")[1].split()[0]
        slow.gate.set()
        answers = [b"".join(iter(partial(client.recv, 65536), b"")) for client in clients]
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)
    assert sum(b'"fetched"' in answer for answer in answers) == 1
    assert len(origin.asked("/m/1")) == 1
    assert int(memory) < 120_000, "kilobytes"


def wait_for_waiters(daemon: Daemon, count: int) -> None:
    def waiters() -> int:
        return sum(fetch["waiters"] for fetch in daemon.request("GET", "/v1/fetches")[1]["fetches"])

    wait_until(lambda: waiters() == count)


def test_the_last_waiter_to_leave_cancels_the_fetch(daemon: Daemon, origin: Origin) -> None:
    slow = Answer(ARCHIVE, gate_after_bytes=10)
    handle = origin.serve("/m/1", slow)
    with daemon.events(handle) as one:
        next(one)
        with daemon.events(handle) as other:
            next(other)
            wait_for_waiters(daemon, 2)
        wait_for_waiters(daemon, 1)
    wait_for_waiters(daemon, 0)
    slow.gate.set()
    assert daemon.resolve(handle)[1]["outcome"] == "fetched"
    assert len(origin.asked("/m/1")) == 2
    assert staged(daemon) == []


def test_progress_is_a_stream_that_ends_with_the_answer(shared_daemon: Daemon, origin: Origin) -> None:
    slow = Answer(ARCHIVE, gate_after_bytes=100)
    handle = origin.serve("/m/1", slow)
    with shared_daemon.events(handle) as events:
        first = next(events)
        while first["fetch"]["state"] != "transferring":
            first = next(events)
        assert first["event"] == "progress"
        assert first["fetch"]["total_bytes"] == len(ARCHIVE)
        slow.gate.set()
        last = list(events)[-1]
    assert last["event"] == "resolved"
    assert last["result"]["outcome"] == "fetched"


def test_a_failed_fetch_ends_the_stream_with_its_problem(shared_daemon: Daemon, origin: Origin) -> None:
    with shared_daemon.events(origin.url("/none/1")) as events:
        last = list(events)[-1]
    assert (last["event"], last["problem"]["code"]) == ("failed", "upstream-not-found")


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (Answer(status=404), 404, "upstream-not-found"),
        (Answer(status=410), 404, "upstream-not-found"),
        (Answer(status=401), 403, "upstream-denied"),
        (Answer(status=403), 403, "upstream-denied"),
        (Answer(status=500), 503, "upstream-unavailable"),
        (Answer(status=429), 503, "upstream-unavailable"),
        (Answer(status=304), 503, "upstream-unavailable"),
        (Answer(ARCHIVE, cut_after_bytes=100), 503, "upstream-unavailable"),
        (Answer(ARCHIVE, announced_bytes=len(ARCHIVE) + 10), 503, "upstream-unavailable"),
        (Answer(ARCHIVE, chunked=True, cut_after_bytes=100), 503, "upstream-unavailable"),
        (Answer(b"<html>sign in</html>"), 502, "archive-corrupt"),
        (Answer(b""), 502, "archive-corrupt"),
        (Answer(ARCHIVE[:-20]), 502, "archive-corrupt"),
        (Answer(archive({"README.md": b"no module"})), 422, "not-a-module"),
        (Answer(status=302, headers={"Location": "/m/1"}), 503, "upstream-unavailable"),
        (Answer(status=302), 503, "upstream-unavailable"),
        (Answer(status=302, headers={"Location": "file:///etc/passwd"}), 403, "handle-forbidden"),
    ],
)
def test_what_goes_wrong_upstream_has_its_code_and_leaves_nothing(
    shared_daemon: Daemon, origin: Origin, answer: Answer, status: int, code: str
) -> None:
    daemon = shared_daemon
    before = os.listdir(daemon.cache / "trees")
    got, problem = daemon.resolve(origin.serve("/m/1", answer))
    assert (got, problem["code"]) == (status, code)
    assert "sign in" not in problem["detail"], "nothing that the origin wrote is repeated"
    assert staged(daemon) == []
    assert os.listdir(daemon.cache / "trees") == before


def test_a_chunked_archive_and_one_behind_redirects_arrive(shared_daemon: Daemon, origin: Origin) -> None:
    assert shared_daemon.resolve(origin.serve("/chunked/1", Answer(ARCHIVE, chunked=True)))[0] == 200
    origin.serve("/there/x.tar.gz", Answer(OTHER_ARCHIVE))
    origin.serve("/hop", Answer(status=307, headers={"Location": origin.url("/there/x.tar.gz")}))
    assert shared_daemon.resolve(origin.serve("/here/1", Answer(status=302, headers={"Location": "/hop"})))[0] == 200


def test_a_server_that_labels_the_archive_as_content_encoding_gzip_is_understood(
    shared_daemon: Daemon, origin: Origin
) -> None:
    labelled = Answer(ARCHIVE, headers={"Content-Encoding": "gzip"})
    assert shared_daemon.resolve(origin.serve("/labelled/1", labelled))[0] == 200
    twice = Answer(gzip.compress(OTHER_ARCHIVE), headers={"Content-Encoding": "gzip"})
    assert shared_daemon.resolve(origin.serve("/twice/1", twice))[0] == 200


def test_a_404_is_remembered_for_a_short_while(tmp_path: Path, origin: Origin) -> None:
    with Daemon(tmp_path, config='[network]\nnegative_ttl = "1h"\n') as daemon:
        handle = origin.serve("/m/1", Answer(status=404))
        assert [daemon.resolve(handle)[0] for _ in range(3)] == [404, 404, 404]
        assert len(origin.asked("/m/1")) == 1
        origin.serve("/m/1", Answer(ARCHIVE))
        assert daemon.resolve(handle, refresh=True)[0] == 200, "who insists is let through"


def test_other_failures_are_not_remembered(shared_daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(status=500))
    assert shared_daemon.resolve(handle)[0] == 503
    origin.serve("/m/1", Answer(ARCHIVE))
    assert shared_daemon.resolve(handle)[0] == 200


def test_a_callers_digest_is_compared_for_that_caller_alone(shared_daemon: Daemon, origin: Origin) -> None:
    slow = Answer(ARCHIVE, gate_after_bytes=10)
    handle = origin.serve("/m/1", slow)
    right = hashlib.sha256(ARCHIVE).hexdigest()
    with ThreadPoolExecutor(3) as pool:
        wrong_one = pool.submit(shared_daemon.resolve, handle, digest="0" * 64)
        right_one = pool.submit(shared_daemon.resolve, handle, digest=f"sha256:{right}")
        plain = pool.submit(shared_daemon.resolve, handle)
        wait_for_waiters(shared_daemon, 3)
        slow.gate.set()
        assert wrong_one.result()[1]["code"] == "digest-mismatch"
        assert right_one.result()[0] == plain.result()[0] == 200
    assert shared_daemon.resolve(handle, digest="0" * 64)[1]["code"] == "digest-mismatch"
    assert len(origin.asked("/m/1")) == 1


def test_a_damaged_tree_is_noticed_and_fetched_again_under_its_holders_lease(daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(ARCHIVE))
    answer = daemon.resolve(handle)[1]
    tree = Path(answer["path"]).parent
    lease = Lease.share(str(tree / "lease"))
    (tree / "module" / "variables" / "variables.index").unlink()
    healed = daemon.resolve(handle)[1]
    assert healed["outcome"] == "fetched"
    assert healed["path"] == answer["path"]
    assert (tree / "module" / "variables" / "variables.index").read_bytes() == MODULE["variables/variables.index"]
    with pytest.raises(BlockingIOError):
        Lease.exclusive(str(tree / "lease"))
    assert os.stat(tree / "lease").st_ino == lease.inode[1]
    lease.release()
    counters = daemon.request("GET", "/v1/status")[1]["counters"]
    assert (counters["damaged"], counters["repaired"]) == (1, 1)


def test_the_daemon_holds_a_lease_when_it_answers(shared_daemon: Daemon, origin: Origin) -> None:
    answer = shared_daemon.resolve(origin.serve("/m/1", Answer(ARCHIVE)))[1]
    lease = Path(answer["path"]).parent / "lease"
    with pytest.raises(BlockingIOError):
        Lease.exclusive(str(lease))


def test_equal_archives_are_stored_once(daemon: Daemon, origin: Origin) -> None:
    with ThreadPoolExecutor(4) as pool:
        urls = [origin.serve(f"/m/{number}", Answer(ARCHIVE)) for number in range(4)]
        answers = [answer for _, answer in pool.map(daemon.resolve, urls)]
    assert len({answer["path"] for answer in answers}) == 1
    assert len(os.listdir(daemon.cache / "trees")) == 1
    assert daemon.request("GET", "/v1/status")[1]["cache"]["size_bytes"] == sum(map(len, MODULE.values()))


def test_a_server_that_stalls_is_given_up(tmp_path: Path, origin: Origin) -> None:
    with Daemon(tmp_path, config='[network]\nstall_timeout = "300ms"\n') as daemon:
        handle = origin.serve("/m/1", Answer(ARCHIVE, gate_after_bytes=10))
        assert daemon.resolve(handle)[1]["code"] == "upstream-timeout"


def test_an_archive_over_the_limit_is_refused_before_it_comes(tmp_path: Path, origin: Origin) -> None:
    with Daemon(tmp_path, config='[limits]\narchive = "100B"\n') as daemon:
        announced = origin.serve("/m/1", Answer(ARCHIVE))
        assert daemon.resolve(announced)[1]["code"] == "archive-too-large"
        unannounced = origin.serve("/m/2", Answer(ARCHIVE, chunked=True))
        assert daemon.resolve(unannounced)[1]["code"] == "archive-too-large"


def test_the_service_contacts_no_private_address(tmp_path: Path, origin: Origin) -> None:
    closed = "[network]\nallow_private_addresses = false\n"
    with Daemon(tmp_path, config=closed) as daemon:
        handle = origin.serve("/m/1", Answer(ARCHIVE))
        assert daemon.resolve(handle)[1]["code"] == "address-forbidden"
        assert daemon.resolve(handle.replace("127.0.0.1", "localhost"))[1]["code"] == "address-forbidden"
        assert origin.asked("/m/1") == []


def test_killed_in_mid_fetch_the_next_daemon_resolves_the_same_handle(tmp_path: Path, origin: Origin) -> None:
    slow = Answer(ARCHIVE, gate_after_bytes=100)
    handle = origin.serve("/m/1", slow)
    with Daemon(tmp_path) as daemon:
        with daemon.events(handle) as events:
            next(events)
            origin.wait_until_asked("/m/1")
            daemon.kill()
        slow.gate.set()
        daemon.start()
        status, answer = daemon.resolve(handle)
        assert (status, answer["outcome"]) == (200, "fetched")
        assert staged(daemon) == []


def test_a_cached_module_survives_a_kill(daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(ARCHIVE))
    daemon.resolve(handle)
    daemon.kill()
    daemon.start()
    assert daemon.resolve(handle)[1]["outcome"] == "hit"


def test_sigterm_answers_waiters_shutting_down_and_exits_0_within_5_s(daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(ARCHIVE, gate_after_bytes=10))
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(daemon.resolve, handle)
        wait_for_waiters(daemon, 1)
        with daemon.events(handle) as events:
            next(events)
            began = time.monotonic()
            daemon.signal(signal.SIGTERM)
            last = list(events)[-1]
        assert last["problem"]["code"] == "shutting-down"
        assert waiting.result()[1]["code"] == "shutting-down"
    assert daemon.wait() == 0
    assert time.monotonic() - began < 5
    assert not daemon.socket.exists()
    assert staged(daemon) == []


def test_prefetch_starts_fetches_without_waiting(daemon: Daemon, origin: Origin) -> None:
    slow = Answer(ARCHIVE, gate_after_bytes=10)
    there = origin.serve("/there/1", Answer(OTHER_ARCHIVE))
    daemon.resolve(there)
    handle = origin.serve("/m/1", slow)
    status, answer = daemon.request("POST", "/v1/prefetch", {"handles": [handle, there]})
    assert status == 202
    assert [bool(fetch["id"]) for fetch in answer["fetches"]] == [True, False]
    (running,) = daemon.request("GET", "/v1/fetches")[1]["fetches"]
    assert running["id"] == answer["fetches"][0]["id"]
    slow.gate.set()
    assert daemon.resolve(handle)[1]["outcome"] in ("joined", "hit")
    assert len(origin.asked("/m/1")) == 1


def test_a_prefetch_that_is_asked_for_again_waits_once(daemon: Daemon, origin: Origin) -> None:
    slow = Answer(ARCHIVE, gate_after_bytes=10)
    handle = origin.serve("/m/1", slow)

    def prefetch() -> str:
        fetch_id: str = daemon.request("POST", "/v1/prefetch", {"handles": [handle]})[1]["fetches"][0]["id"]
        return fetch_id

    assert len({prefetch() for _ in range(20)}) == 1
    (fetch,) = daemon.request("GET", "/v1/fetches")[1]["fetches"]
    assert fetch["waiters"] == 1
    daemon.request("DELETE", f"/v1/fetches/{fetch['id']}")
    wait_until(lambda: daemon.request("GET", "/v1/fetches")[1]["fetches"] == [])
    assert prefetch() != fetch["id"]
    slow.gate.set()
    assert daemon.resolve(handle)[0] == 200


def test_fetches_beyond_the_limit_wait_for_their_turn(tmp_path: Path, origin: Origin) -> None:
    with Daemon(tmp_path, config="[network]\nconcurrent_fetches = 1\n") as daemon:
        slow = Answer(ARCHIVE, gate_after_bytes=10)
        urls = [origin.serve("/m/1", slow), origin.serve("/m/2", Answer(OTHER_ARCHIVE))]
        daemon.request("POST", "/v1/prefetch", {"handles": urls})
        origin.wait_until_asked("/m/1")
        states = {fetch["handle"]: fetch["state"] for fetch in daemon.request("GET", "/v1/fetches")[1]["fetches"]}
        assert states[urls[1]] == "queued"
        slow.gate.set()
        assert daemon.resolve(urls[1])[0] == 200


def test_who_is_waited_for_overtakes_the_prefetches_in_the_queue(tmp_path: Path, origin: Origin) -> None:
    order: list[str] = []

    def noted(asked: Asked) -> Answer:
        order.append(asked.target[:4])
        return Answer(ARCHIVE)

    with Daemon(tmp_path, config="[network]\nconcurrent_fetches = 1\n") as daemon:
        slow = Answer(OTHER_ARCHIVE, gate_after_bytes=10)
        queued = [origin.serve(f"/p{number}/1", noted) for number in range(3)]
        daemon.request("POST", "/v1/prefetch", {"handles": [origin.serve("/slow/1", slow), *queued]})
        with ThreadPoolExecutor(2) as pool:
            asking = [pool.submit(daemon.resolve, handle) for handle in (origin.serve("/m1/1", noted), queued[2])]
            wait_for_waiters(daemon, 6)
            slow.gate.set()
            assert [future.result()[0] for future in asking] == [200, 200]
        wait_for_waiters(daemon, 0)
    assert set(order[:2]) == {"/m1/", "/p2/"}
    assert order[2:] == ["/p0/", "/p1/"]


def test_prefetches_leave_a_turn_for_who_is_waited_for(tmp_path: Path, origin: Origin) -> None:
    with Daemon(tmp_path, config="[network]\nconcurrent_fetches = 2\n") as daemon:
        slow = [Answer(OTHER_ARCHIVE, gate_after_bytes=10) for _ in range(2)]
        urls = [origin.serve(f"/p/{number}", answer) for number, answer in enumerate(slow)]
        daemon.request("POST", "/v1/prefetch", {"handles": urls})
        origin.wait_until_asked("/p/0")
        assert daemon.resolve(origin.serve("/m/1", Answer(ARCHIVE)))[0] == 200
        assert origin.asked("/p/1") == []
        for answer in slow:
            answer.gate.set()


def test_a_fetch_that_joins_one_that_ended_looks_in_the_store_first(shared_daemon: Daemon, origin: Origin) -> None:
    barrier = threading.Barrier(8)

    def ask(number: int) -> str:
        barrier.wait()
        outcome: str = shared_daemon.resolve(handle)[1]["outcome"]
        return outcome

    handle = origin.serve("/m/1", lambda asked: first_only(asked))

    def first_only(asked: Asked) -> Answer:
        return Answer(ARCHIVE) if len(origin.asked("/m/1")) == 1 else Answer(status=500)

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(ask, range(8)))
    assert outcomes.count("fetched") == 1
    assert set(outcomes) <= {"fetched", "joined", "hit"}


def test_what_a_fetch_and_a_repair_leave_is_cleared_away_soon(shared_daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(ARCHIVE))
    answer = shared_daemon.resolve(handle)[1]
    wait_until(lambda: os.listdir(shared_daemon.cache / "trash") == [])
    (Path(answer["path"]) / "saved_model.pb").unlink()
    assert shared_daemon.resolve(handle)[1]["outcome"] == "fetched"
    wait_until(lambda: os.listdir(shared_daemon.cache / "trash") == [])


def test_a_module_of_many_files_is_a_hit_and_each_of_them_is_looked_at(shared_daemon: Daemon, origin: Origin) -> None:
    many = {**MODULE, **{f"assets/{number:04}": b"x" for number in range(500)}}
    handle = origin.serve("/m/1", Answer(archive(many)))
    answer = shared_daemon.resolve(handle)[1]
    assert shared_daemon.resolve(handle)[1]["outcome"] == "hit"
    (Path(answer["path"]) / "assets" / "0499").write_bytes(b"damaged")
    assert shared_daemon.resolve(handle)[1]["outcome"] == "fetched"


def test_what_cannot_change_soon_is_not_fetched_again_at_once(tmp_path: Path, origin: Origin) -> None:
    with Daemon(tmp_path, config='[network]\nnegative_ttl = "1h"\n') as daemon:
        handle = origin.serve("/m/1", Answer(archive({"README.md": b"no module"})))
        assert [daemon.resolve(handle)[1]["code"] for _ in range(3)] == ["not-a-module"] * 3
        assert len(origin.asked("/m/1")) == 1

"""Connections and bytes are shared out: to each host so many, to each fetch alike, and never faster than was set."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.archives import archive
from tests.support.daemon import Daemon
from tests.support.origin import Answer, Origin
from tests.support.waiting import wait_until

ARCHIVE = archive({"saved_model.pb": b"\x08\x01\x12\x00", "variables/variables.index": b"index" * 1000})
# So much earlier may bytes come than a rate earns them. How much later is the machine's affair.
CREDIT_SECONDS = 0.2


def elsewhere(url: str) -> str:
    """The same, at what is another host by its name."""
    return url.replace("127.0.0.1", "localhost")


def large(seed: int) -> bytes:
    """An archive of 6 MB."""
    return archive({"saved_model.pb": b"\x08\x01\x12\x00", "assets/large": random.Random(seed).randbytes(6_000_000)})


def received(daemon: Daemon, least_bytes: int) -> tuple[float, dict[str, int]]:
    """When at least so much had come, and how much of each archive under way."""
    seen: dict[str, int] = {}

    def is_enough() -> bool:
        fetches = daemon.request("GET", "/v1/fetches")[1]["fetches"]
        seen.update({fetch["handle"]: fetch["received_bytes"] for fetch in fetches})
        return sum(seen.values()) >= least_bytes

    wait_until(is_enough)
    return time.monotonic(), seen


def states(daemon: Daemon) -> list[str]:
    return sorted(fetch["state"] for fetch in daemon.request("GET", "/v1/fetches")[1]["fetches"])


def test_a_host_gets_so_many_connections_and_other_hosts_do_not_wait_for_it(tmp_path: Path, origin: Origin) -> None:
    with Daemon(tmp_path, config="[network]\nconnections_per_host = 2\n") as daemon, ThreadPoolExecutor(3) as pool:
        slow = [Answer(ARCHIVE, gate_after_bytes=10) for _ in range(3)]
        urls = [origin.serve(f"/slow{number}/1", answer) for number, answer in enumerate(slow)]
        asking = [pool.submit(daemon.resolve, url) for url in urls]
        wait_until(lambda: states(daemon) == ["connecting", "transferring", "transferring"])
        assert daemon.resolve(elsewhere(origin.serve("/m/1", Answer(ARCHIVE))))[0] == 200
        assert sum(len(origin.asked(f"/slow{number}/1")) for number in range(3)) == 2
        for answer in slow:
            answer.gate.set()
        assert [future.result()[0] for future in asking] == [200] * 3


def test_a_redirect_gives_back_the_place_at_the_host_that_it_left(tmp_path: Path, origin: Origin) -> None:
    with Daemon(tmp_path, config="[network]\nconnections_per_host = 1\n") as daemon, ThreadPoolExecutor(1) as pool:
        there = Answer(ARCHIVE, gate_after_bytes=10)
        target = elsewhere(origin.serve("/there", there))
        moved = origin.serve("/moved/1", Answer(status=302, headers={"Location": target}))
        asking = pool.submit(daemon.resolve, moved)
        origin.wait_until_asked("/there")
        assert daemon.resolve(origin.serve("/m/1", Answer(ARCHIVE)))[0] == 200
        there.gate.set()
        assert asking.result()[0] == 200


def test_the_rate_holds_for_all_fetches_together_and_they_share_it(tmp_path: Path, origin: Origin) -> None:
    with Daemon(tmp_path, config='[network]\nmax_rate = "2MB/s"\n') as daemon, ThreadPoolExecutor(2) as pool:
        urls = [origin.serve(f"/m/{number}", Answer(large(number))) for number in range(2)]
        began = time.monotonic()
        asking = [pool.submit(daemon.resolve, url) for url in urls]
        wait_until(lambda: states(daemon) == ["transferring", "transferring"])
        _, first = received(daemon, 0)
        ended, last = received(daemon, 4_000_000 + sum(first.values()))
        assert sum(last.values()) <= 2_000_000 * (ended - began + CREDIT_SECONDS)
        came = [last[url] - first[url] for url in urls]
        assert min(came) >= sum(came) / 4  # alike, as far as the machine brings both
        daemon.kill()
        assert all(future.exception() is not None for future in asking)


def test_a_prefetch_keeps_to_its_rate_until_a_client_joins_it(tmp_path: Path, origin: Origin) -> None:
    with Daemon(tmp_path, config='[network]\nprefetch_max_rate = "250KB/s"\n') as daemon:
        handle = origin.serve("/m/1", Answer(large(1)))
        began = time.monotonic()
        daemon.request("POST", "/v1/prefetch", {"handles": [handle]})
        ended, last = received(daemon, 500_000)
        assert last[handle] <= 250_000 * (ended - began + CREDIT_SECONDS)
        assert daemon.resolve(handle)[1]["outcome"] == "joined"
        assert time.monotonic() - ended < 15, "at its rate the rest takes twenty seconds"

"""Connections and bytes are shared out: to each host so many, to each fetch alike, and never faster than was set."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.archives import archive
from tests.support.daemon import Daemon
from tests.support.origin import Answer, Origin
from tests.support.waiting import wait_until

ARCHIVE = archive({"saved_model.pb": b"\x08\x01\x12\x00", "variables/variables.index": b"index" * 1000})


def elsewhere(url: str) -> str:
    """The same, at what is another host by its name."""
    return url.replace("127.0.0.1", "localhost")


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

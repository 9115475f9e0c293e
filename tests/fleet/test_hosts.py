"""Eight machines, each on a host of its own with a narrow line to the store, ask for one cold module at one time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support import nginx
from tests.support.site import PATH, fetched, longest, module_of, site
from tests.support.star import Link, missing

HOSTS = 8
MB = 1_000_000

pytestmark = pytest.mark.skipif(nginx.PROGRAM is None, reason="nginx is not installed")


@pytest.fixture(autouse=True)
def networks() -> None:
    if reason := missing():
        pytest.skip(reason)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("size_bytes", "bytes_per_second", "most_times"),
    [
        # What a machine waits before it looks again is as long as some of these seconds, so the bound is a wide one.
        pytest.param(24 * MB, 8 * MB, 3.0, id="24-MB"),
        # The goal is 1.5, which `make bench` measures; here is slack for two cores that do the work of ten machines.
        pytest.param(200 * MB, 8 * MB, 1.75, id="200-MB", marks=pytest.mark.thorough),
    ],
)
def test_eight_hosts_ask_the_origin_once_and_take_hardly_longer_than_from_the_store(
    tmp_path: Path, size_bytes: int, bytes_per_second: int, most_times: float
) -> None:
    """Than the same eight do: `make bench` compares with one, on a machine that has nothing else to do."""
    module, other = module_of(size_bytes), module_of(size_bytes + 1)
    with site(tmp_path, HOSTS + 1, Link(down=bytes_per_second)) as fleet:
        crowd = fleet.crowd(HOSTS, module)
        assert sorted(had.tier for had in crowd.all) == ["fleet"] * (HOSTS - 1) + ["origin"]
        assert crowd.one.tier == "fleet"
        assert len(fleet.origin.asked(PATH)) == 1
        assert fleet.origin.sent_bytes(PATH) == len(module.archive)
        again = fleet.again(crowd, other)
        assert {had.tier for had in again} == {"fleet"}
        print(
            f"\n{HOSTS} hosts: {crowd.seconds:.2f} s, until the record is there {crowd.seconds_to_record:.2f} s; "
            f"from the store: {longest(again):.2f} s, and one alone {crowd.one.seconds:.2f} s; "
            f"{crowd.seconds / longest(again):.2f} x"
        )
        assert crowd.seconds < most_times * longest(again)


@pytest.mark.thorough
def test_a_host_without_a_way_to_the_store_gets_its_module_and_the_others_theirs(tmp_path: Path) -> None:
    module = module_of(4 * MB)
    with site(tmp_path, 3, Link()) as fleet:
        handle = fleet.serve(module)
        machines = [fleet.machine(host, '[network]\nconnect_timeout = "2s"\nretries = 0\n') for host in range(3)]
        with fleet.hosts.parted(0), ThreadPoolExecutor(3) as asking:
            parted, *others = [asking.submit(fetched, machine, handle, module) for machine in machines]
            assert parted.result(30).tier == "origin"
            assert sorted(other.result(30).tier for other in others) == ["fleet", "origin"]
            assert len(fleet.origin.asked(PATH)) == 2
            assert machines[0].request("GET", "/v1/fleet")[1]["state"] == "away"

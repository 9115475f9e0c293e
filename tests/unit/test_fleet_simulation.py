"""A thousand machines on one cold handle: what the simulation promises of the real code, in seconds of real time."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from functools import cache

import pytest

from benchmarks.fleet_chart import Result, draw
from benchmarks.fleet_simulation import SCENARIOS, simulate, table

MACHINES = 1000
ALONE_SECONDS = 4.0 + 1.0  # 200 MB at 50 MB/s, begun within a second


@cache
def result(name: str) -> Result:
    return simulate(name, MACHINES, seed=1)


def test_an_origin_is_asked_once_and_the_store_a_few_times_by_each() -> None:
    found = result("at once")
    assert found.origin_requests == 1
    assert found.store_requests <= 8 * MACHINES
    assert found.last_knows_seconds <= ALONE_SECONDS + 2.0
    assert found.last_has_seconds <= ALONE_SECONDS + 4.0


def test_who_comes_later_asks_the_store_twice() -> None:
    found = result("over a minute")
    assert found.origin_requests == 1
    assert found.store_requests <= 2.5 * MACHINES  # at its start, and for the record


def test_each_death_costs_the_origin_one_request_and_the_fleet_a_claim_timeout() -> None:
    found = result("deaths")
    assert found.deaths >= 1
    assert found.origin_requests == 1 + found.deaths
    assert found.store_requests <= 18 * MACHINES
    assert found.last_has_seconds <= ALONE_SECONDS + found.deaths * (30.0 * 1.25 + ALONE_SECONDS + 5.0)


def test_a_store_that_limits_requests_is_waited_for_and_not_the_origin_asked() -> None:
    found = result("limited")
    assert found.origin_requests == 1
    assert found.refused > 0
    assert found.last_has_seconds <= 30.0


def test_a_store_that_goes_away_makes_no_machine_worse_than_alone() -> None:
    found, alone = result("away"), result("no fleet")
    assert 0 < found.origin_requests < MACHINES
    assert found.last_has_seconds <= 60.0 + alone.last_has_seconds


def test_without_the_fleet_each_asks_the_origin() -> None:
    found = result("no fleet")
    assert (found.origin_requests, found.store_requests) == (MACHINES, 0)


def test_a_seed_gives_one_history_and_another_seed_another() -> None:
    first, second = (simulate("deaths", 50, seed=7) for _ in range(2))
    assert first == second
    assert simulate("deaths", 50, seed=8) != first


@pytest.mark.parametrize("names", [["at once"], list(SCENARIOS)])
def test_all_figures_are_in_the_table_and_all_scenarios_in_the_drawing(names: list[str]) -> None:
    results = {name: [Result(machines, machines, 2, 1, 7, 1.5, 2.5) for machines in (10, 100)] for name in names}
    shown = table(results)
    assert all(SCENARIOS[name].title in shown for name in names)
    assert "| 100 | 100 |" in shown
    drawn = ET.fromstring(draw(results))
    texts = [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert set(names) <= set(texts)

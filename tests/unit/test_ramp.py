"""Connections come while the unpacker waits, and go when fewer bring the same."""

from __future__ import annotations

from collections.abc import Callable

from hubd.network.ramp import Ramp


def run(ramp: Ramp, rate_of: Callable[[int], float], seconds: float, *, starving: bool = True) -> list[int]:
    """How many were wanted at each tenth of a second, at an origin that gives so much to so many."""
    wanted, received = [], 0.0
    for tick in range(1, int(seconds * 10) + 1):
        received += rate_of(ramp.wanted) * 0.1
        wanted.append(ramp.step(int(received), starving, tick * 0.1))
    return wanted


def test_while_the_unpacker_waits_all_are_used_within_half_a_second() -> None:
    assert run(Ramp(8, 0.0), lambda count: 20e6 * count, 0.5)[-1] == 8


def test_while_the_unpacker_has_enough_to_do_one_is_used() -> None:
    assert set(run(Ramp(8, 0.0), lambda count: 20e6 * count, 30.0, starving=False)) == {1}


def test_where_each_brings_more_nearly_all_are_used_nearly_always() -> None:
    wanted = run(Ramp(8, 0.0), lambda count: 20e6 * count, 120.0)
    assert wanted.count(8) > 0.85 * len(wanted)


def test_where_fewer_bring_the_same_fewer_are_used() -> None:
    wanted = run(Ramp(8, 0.0), lambda count: 50e6, 60.0)
    assert min(wanted[100:]) <= 2
    assert wanted.count(8) < 0.4 * len(wanted)


def test_what_our_own_limits_hold_back_is_left_with_half_of_them_for_a_while() -> None:
    ramp = Ramp(8, 0.0)
    run(ramp, lambda count: 20e6 * count, 1.0)
    ramp.held(8, 0, 1.0)
    assert ramp.wanted == 4
    assert ramp.step(0, True, 2.0) == 4, "although the unpacker waits"
    for seconds in (3.0, 4.0, 5.0):
        ramp.held(ramp.wanted, 0, seconds)
    assert ramp.wanted == 1
    assert ramp.step(0, True, 60.0) == 2


def test_an_origin_that_refuses_a_connection_is_left_with_those_that_it_serves_for_a_while() -> None:
    ramp = Ramp(8, 0.0)
    run(ramp, lambda count: 20e6 * count, 1.0)
    ramp.refused(3, 0, 1.0)
    assert ramp.step(0, True, 1.2) == 3
    assert ramp.step(0, True, 11.2) == 6, "it may have been a moment's trouble"


def test_what_came_before_a_refusal_is_no_rate_of_those_that_are_left() -> None:
    ramp, received = Ramp(8, 0.0), 10_000_000_000
    for tick in range(1, 6):
        ramp.step(received, True, tick * 0.1)
    ramp.refused(4, received, 1.0)
    wanted = []
    for tick in range(1, 80):  # fewer bring the same
        received += 5_000_000
        wanted.append(ramp.step(received, False, 1.0 + tick * 0.1))
    assert wanted[-1] < 4

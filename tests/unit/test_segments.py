"""Every byte is received once, the lowest first, and a slow connection keeps nobody waiting."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hubd.network.segments import ENDLESS, LEAST_BYTES, Plan, Ranges, segment_bytes

SPANS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=12)


@given(SPANS)
def test_ranges_are_the_set_of_their_bytes(spans: list[tuple[int, int]]) -> None:
    ranges, there = Ranges(spans), {byte for start, end in spans for byte in range(start, end)}
    assert {byte for start, end in ranges for byte in range(start, end)} == there
    assert ranges.size_bytes == len(there)
    assert ranges.frontier_bytes == next(byte for byte in range(61) if byte not in there)
    ends = [edge for span in ranges for edge in span]
    assert ends == sorted(set(ends)), "in order and apart"


@given(SPANS, st.integers(1, 30))
def test_what_is_taken_is_the_lowest_and_gone(spans: list[tuple[int, int]], most_bytes: int) -> None:
    ranges = Ranges(spans)
    first, size_bytes = next(iter(ranges), None), ranges.size_bytes
    taken = ranges.take(most_bytes)
    if first is None:
        assert taken is None
        return
    assert taken == (first[0], min(first[1], first[0] + most_bytes))
    assert ranges.size_bytes == size_bytes - (taken[1] - taken[0])


def test_a_plan_gives_out_the_lowest_bytes_first_and_again_what_was_left() -> None:
    plan = Plan(10, 100)
    first, second = plan.take(20, 0.0), plan.take(20, 0.0)
    assert first is not None
    assert second is not None
    assert [(first.at, first.end), (second.at, second.end)] == [(10, 30), (30, 50)]
    first.at = 15
    plan.leave(first)
    third = plan.take(100, 0.0)
    assert third is not None
    assert (third.at, third.end) == (15, 30)
    assert plan.left_bytes == 85


def test_an_answer_with_all_that_follows_goes_on_until_another_has_begun_there() -> None:
    plan = Plan(0, 100)
    whole = plan.take(ENDLESS, 0.0)
    assert whole is not None
    plan.bound(whole, 20)
    other = plan.take(30, 0.0)
    assert other is not None
    assert (other.start, other.end) == (20, 50)
    assert not plan.extend(whole, ENDLESS)
    plan.leave(other)
    assert plan.extend(whole, ENDLESS)
    assert whole.end == 100


def test_a_plan_without_a_size_is_one_segment() -> None:
    plan = Plan(0, None)
    assert plan.is_endless
    assert plan.take(ENDLESS, 0.0) is not None
    assert plan.take(ENDLESS, 0.0) is None


def test_a_slow_segment_shares_what_is_left_by_the_rates() -> None:
    plan = Plan(0, 20 * LEAST_BYTES)
    slow = plan.take(ENDLESS, 0.0)
    assert slow is not None
    slow.at = 4 * LEAST_BYTES
    found = plan.relieve(3 * LEAST_BYTES, 4.0)  # it made 1 MiB/s, others make 3
    assert found is not None
    more, ended = found
    assert ended is None
    assert (slow.end, more.start, more.end) == (8 * LEAST_BYTES, 8 * LEAST_BYTES, 20 * LEAST_BYTES)


def test_one_that_hardly_moves_loses_all() -> None:
    plan = Plan(0, 20 * LEAST_BYTES)
    stuck = plan.take(ENDLESS, 0.0)
    assert stuck is not None
    stuck.at = 1000
    found = plan.relieve(LEAST_BYTES, 10.0)
    assert found is not None
    more, ended = found
    assert ended is stuck
    assert (more.start, more.end) == (1000, 20 * LEAST_BYTES)
    assert plan.running == [more]


def test_nobody_is_relieved_who_is_about_to_end_or_as_fast_as_the_others() -> None:
    plan = Plan(0, 20 * LEAST_BYTES)
    usual = plan.take(ENDLESS, 0.0)
    assert usual is not None
    usual.at = 10 * LEAST_BYTES
    assert plan.relieve(LEAST_BYTES, 10.0) is None
    usual.at = 20 * LEAST_BYTES - 100
    assert plan.relieve(100 * LEAST_BYTES, 10.0) is None


def test_segments_become_smaller_toward_the_end_and_a_single_one_takes_all() -> None:
    assert segment_bytes(10**9, 1, 1e6) == ENDLESS
    sizes = [segment_bytes(left, 8, 20e6) for left in (10**9, 10**8, 10**7)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] <= 20e6, "none takes much longer than a second"
    assert sizes[-1] == LEAST_BYTES

"""What the cache may take, and what goes first: pure decisions."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hubd.store.budget import Candidate, Limits, capacity_bytes, choose_victims, excess_bytes

MB = 1_000_000

candidates = st.lists(
    st.builds(
        Candidate,
        name=st.text("abcdef", min_size=1, max_size=4),
        size_bytes=st.integers(0, 100),
        last_used=st.floats(0, 100),
        is_partial=st.booleans(),
        pinned=st.booleans(),
    ),
    max_size=20,
    unique_by=lambda candidate: candidate.name,
)


def test_the_least_recently_used_go_first_and_only_as_many_as_need_be() -> None:
    modules = [Candidate(name, 10, age) for name, age in (("new", 30.0), ("old", 10.0), ("middle", 20.0))]
    assert [victim.name for victim in choose_victims(modules, 15)] == ["old", "middle"]
    assert [victim.name for victim in choose_victims(modules, 10)] == ["old"]
    assert choose_victims(modules, 0) == []


def test_broken_off_downloads_go_before_any_module() -> None:
    old, partial = Candidate("old", 10, 1.0), Candidate("partial", 10, 99.0, is_partial=True)
    assert choose_victims([old, partial], 5) == [partial]
    assert choose_victims([old, partial], 15) == [partial, old]


@given(candidates, st.integers(0, 1000))
def test_what_is_pinned_never_goes_and_what_is_chosen_is_enough_or_all(
    offered: list[Candidate], need_bytes: int
) -> None:
    victims = choose_victims(offered, need_bytes)
    assert not any(victim.pinned for victim in victims)
    free_bytes = sum(victim.size_bytes for victim in victims)
    possible = [candidate for candidate in offered if not candidate.pinned]
    assert free_bytes >= need_bytes or len(victims) == len(possible)
    if victims:
        assert free_bytes - victims[-1].size_bytes < need_bytes  # the last one was needed
    rest = [candidate for candidate in possible if candidate not in victims]
    assert not any(
        (not spared.is_partial, spared.last_used) < (not victim.is_partial, victim.last_used)
        for spared in rest
        for victim in victims
    )


def test_the_capacity_is_the_smaller_of_the_quota_and_what_the_disk_leaves() -> None:
    limits = Limits(max_size_bytes=100 * MB, min_free_bytes=20 * MB)
    assert capacity_bytes(limits, on_disk_bytes=30 * MB, free_bytes=500 * MB) == 100 * MB
    assert capacity_bytes(limits, on_disk_bytes=30 * MB, free_bytes=50 * MB) == 60 * MB
    assert capacity_bytes(limits, on_disk_bytes=5 * MB, free_bytes=1 * MB) == 0
    assert capacity_bytes(Limits(), on_disk_bytes=30 * MB, free_bytes=50 * MB) == 80 * MB


def test_past_the_high_water_mark_the_excess_is_what_is_above_the_low_one() -> None:
    limits = Limits(high_water=0.9, low_water=0.5)
    assert excess_bytes(limits, used_bytes=90, capacity=100) == 0
    assert excess_bytes(limits, used_bytes=91, capacity=100) == 41
    assert excess_bytes(limits, used_bytes=10, capacity=0) == 10

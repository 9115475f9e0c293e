"""Charts stay within their box, whatever the figures are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubd.publishing.charts import Bar, Part, shares, stacked

values = st.lists(st.integers(0, 10**15), min_size=1, max_size=60)


def test_series_are_stacked_from_the_bottom() -> None:
    chart = stacked([3, 0], [1, 2], width=200, height=100)
    assert chart.top == 4
    assert chart.bars == (Bar(0, 25, 98, 75, 0), Bar(0, 0, 98, 25, 1), Bar(100, 50, 98, 50, 1))


def test_of_nothing_nothing_is_drawn() -> None:
    assert stacked([0, 0]).bars == ()
    assert stacked([]).bars == ()
    assert shares([("used", 0)], 0) == ()


@given(values)
def test_bars_stay_within_the_box_and_what_is_more_than_nothing_is_seen(figures: list[int]) -> None:
    chart = stacked(figures, figures)
    assert sum(bar.series == 0 for bar in chart.bars) == sum(figure > 0 for figure in figures)
    for bar in chart.bars:
        assert bar.x >= 0
        assert bar.x + bar.width <= 600
        assert bar.y >= 0
        assert 1 < bar.height <= 120


def test_parts_lie_side_by_side() -> None:
    assert shares([("a", 10), ("b", 0), ("c", 30)], 100, width=200) == (Part("a", 0, 20), Part("c", 20, 60))


@pytest.mark.parametrize("whole", [0, 1, 50])
def test_more_than_the_whole_ends_at_its_end(whole: int) -> None:
    assert sum(part.width for part in shares([("a", 40), ("b", 40)], whole)) in (0, 600)

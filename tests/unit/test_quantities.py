"""Sizes and times with their units."""

from __future__ import annotations

import pytest

from hubclient.contract import quantities


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("200GB", 200 * 10**9), ("1.5 MB", 1_500_000), ("4KiB", 4096), ("2tib", 2 * 2**40), ("7B", 7)],
)
def test_sizes_have_units(text: str, size_bytes: int) -> None:
    assert quantities.parse_size(text) == size_bytes


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30.0), ("500ms", 0.5), ("15min", 900.0), ("2h", 7200.0), ("7d", 604800.0)]
)
def test_times_have_units(text: str, seconds: float) -> None:
    assert quantities.parse_seconds(text) == seconds


@pytest.mark.parametrize("value", [5, "5", "GB", "-1GB", "5 parsec", "\u0665GB", "9" * 400 + "B", True, None])
def test_a_quantity_without_a_good_unit_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="unit"):
        quantities.parse_size(value)

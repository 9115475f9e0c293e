"""Small charts for a page: what of a figure is drawn where, in the units of an SVG's viewBox.

Law: pure arithmetic on numbers. Nothing that a user named can be in it, and a template draws it without a style.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

WIDTH, HEIGHT = 600, 120
_GAP = 2
_LEAST_HEIGHT = 1.5  # what is more than nothing is seen


class Bar(NamedTuple):
    """A rectangle; `series`: which of the stacked ones it is of."""

    x: float
    y: float
    width: float
    height: float
    series: int


class Chart(NamedTuple):
    """`top`: the value at its upper edge."""

    bars: tuple[Bar, ...]
    top: float


def stacked(*series: Sequence[float], width: int = WIDTH, height: int = HEIGHT) -> Chart:
    """Bars for values of the same moments, those of the first series at the bottom; what is nothing has no bar."""
    columns = list(zip(*series, strict=True))
    top = max((sum(column) for column in columns), default=0.0)
    bars: list[Bar] = []
    for number, column in enumerate(columns if top > 0 else ()):
        step, y = width / len(columns), float(height)
        for which, value in enumerate(column):
            if value > 0:
                bar_height = max(_LEAST_HEIGHT, value / top * height)
                y = max(0.0, y - bar_height)
                bars.append(Bar(_short(number * step), _short(y), _short(step - _GAP), _short(bar_height), which))
    return Chart(tuple(bars), top)


class Part(NamedTuple):
    """A stretch of a bar that lies; `name` is what it stands for."""

    name: str
    x: float
    width: float


def shares(parts: Sequence[tuple[str, float]], whole: float, width: int = WIDTH) -> tuple[Part, ...]:
    """Parts of a whole, one beside the other from the left, and never past its end."""
    found: list[Part] = []
    x = 0.0
    for name, value in parts:
        part_width = min(width - x, max(0.0, value) / whole * width) if whole > 0 else 0.0
        if part_width > 0:
            found.append(Part(name, _short(x), _short(part_width)))
        x += part_width
    return tuple(found)


def _short(value: float) -> float:
    return round(value, 2)

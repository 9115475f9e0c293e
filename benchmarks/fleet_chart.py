"""The fleet's simulation as a drawing in SVG: how three costs grow with the number of machines.

Law: both axes are logarithmic and every line is drawn through its own figures alone. The drawing brings its own
background, as `chart` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from typing import NamedTuple
from xml.sax.saxutils import escape

WIDTH, _MARGIN = 760, 20
_PANEL_WIDTH, _PANEL_HEIGHT, _GAP = 208, 190, 48
_LEFT, _TOP = 62, 52
_LEGEND_HEIGHT = 24
_COLOURS = ("#0969da", "#1a7f37", "#9a6700", "#cf222e", "#8250df", "#6e7781")
_DARK = ("#4493f8", "#3fb950", "#d29922", "#f85149", "#ab7df8", "#9198a1")
_DASHES = ("", "6 3", "2 3", "8 3 2 3", "1 2", "12 4")  # for whoever sees no colours


@dataclass(frozen=True)
class Result:
    """What one simulated fleet cost. Seconds count from the first machine's start."""

    machines: int
    origin_requests: int
    store_requests: int  # small ones: without those for the archive
    refused: int
    peak_per_second: int
    last_knows_seconds: float
    last_has_seconds: float
    deaths: int = 0


class Panel(NamedTuple):
    title: str
    value: Callable[[Result], float]


PANELS = (
    Panel("requests to the origin", lambda result: result.origin_requests),
    Panel("seconds to the last machine", lambda result: result.last_has_seconds),
    Panel("most requests to the store in 1 s", lambda result: result.peak_per_second),
)


def _style() -> str:
    def lines(colours: Sequence[str]) -> str:
        return " ".join(f".line{number} {{ stroke: {colour} }}" for number, colour in enumerate(colours))

    return f"""
    text {{ font: 12px system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #1f2328 }}
    .title {{ font-weight: 600 }}
    .tick {{ fill: #59636e; font-size: 11px }}
    .page {{ fill: #ffffff; stroke: #d1d9e0 }}
    .grid {{ stroke: #d1d9e0; fill: none }}
    .line {{ fill: none; stroke-width: 2 }}
    {lines(_COLOURS)}
    @media (prefers-color-scheme: dark) {{
      text {{ fill: #f0f6fc }}
      .tick {{ fill: #9198a1 }}
      .page {{ fill: #0d1117; stroke: #3d444d }}
      .grid {{ stroke: #3d444d }}
      {lines(_DARK)}
    }}
"""


def draw(results: Mapping[str, Sequence[Result]]) -> str:
    """The drawing of these scenarios, each with its results by rising numbers of machines."""
    rows = ceil(len(results) / 3)
    height = _TOP + _PANEL_HEIGHT + 44 + rows * _LEGEND_HEIGHT + _MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
        ' role="img">',
        "<title>What a fleet's cold start costs, by the number of machines</title>",
        f"<style>{_style()}</style>",
        f'<rect class="page" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="6"/>',
    ]
    for number, panel in enumerate(PANELS):
        lines.extend(_panel(panel, results, _LEFT + number * (_PANEL_WIDTH + _GAP - 12)))
    for number, name in enumerate(results):
        x, y = _LEFT + number % 3 * 236, _TOP + _PANEL_HEIGHT + 58 + number // 3 * _LEGEND_HEIGHT
        lines.append(f'<path class="line line{number}" stroke-dasharray="{_DASHES[number]}" d="M{x} {y - 4}h28"/>')
        lines.append(f'<text x="{x + 36}" y="{y}">{escape(name)}</text>')
    return "\n".join([*lines, "</svg>", ""])


def _panel(panel: Panel, results: Mapping[str, Sequence[Result]], left: float) -> Iterator[str]:
    shown = {name: [(one.machines, panel.value(one)) for one in found] for name, found in results.items()}
    machines = [x for points in shown.values() for x, _ in points]
    values = [y for points in shown.values() for _, y in points if y > 0]
    low_x, high_x = _decades(machines)
    low_y, high_y = _decades(values)
    width = _PANEL_WIDTH - 34

    def at(x: float, y: float) -> str:
        across = left + width * (log10(x) - low_x) / (high_x - low_x)
        up = _TOP + _PANEL_HEIGHT * (1 - (log10(y) - low_y) / (high_y - low_y))
        return f"{across:.1f} {up:.1f}"

    yield f'<text class="title" x="{left - 34}" y="{_TOP - 20}">{escape(panel.title)}</text>'
    for decade in range(low_y, high_y + 1):
        yield f'<path class="grid" d="M{at(10**low_x, 10**decade)}h{width}"/>'
        y = at(10**low_x, 10**decade).split()[1]
        yield f'<text class="tick" x="{left - 6}" y="{float(y) + 4:.1f}" text-anchor="end">{_short(10**decade)}</text>'
    for decade in range(low_x, high_x + 1):
        x = at(10**decade, 10**low_y).split()[0]
        bottom = _TOP + _PANEL_HEIGHT
        yield f'<text class="tick" x="{x}" y="{bottom + 16}" text-anchor="middle">{_short(10**decade)}</text>'
    yield (
        f'<text class="tick" x="{left + width / 2:.1f}" y="{_TOP + _PANEL_HEIGHT + 32}" text-anchor="middle">'
        "machines</text>"
    )
    for number, points in enumerate(shown.values()):
        path = "L".join(at(x, y) for x, y in points if y > 0)
        if path:
            yield f'<path class="line line{number}" stroke-dasharray="{_DASHES[number]}" d="M{path}"/>'


def _decades(values: Sequence[float]) -> tuple[int, int]:
    """Powers of ten around all of them, two different ones."""
    low, high = floor(log10(min(values, default=1))), ceil(log10(max(values, default=10)))
    return low, max(high, low + 1)


def _short(value: float) -> str:
    if value >= 1_000_000:
        return f"{value / 1_000_000:g}M"
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"

"""The comparison as a bar chart: a drawing in SVG that README shows.

Law: within one panel a bar is as long as its median, from zero, and its whisker goes from the least to the most of
the rounds. The drawing brings its own background, so that it can be read on a light page and on a dark one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from benchmarks import transfers
from benchmarks.report import Row, Series, figure

WIDTH = 760
_MARGIN = 20
_BARS_X = 190  # where bars begin, to the right of their labels
_BARS_WIDTH = 460  # of the longest whisker; figures stand to the right of it
_BAR_HEIGHT, _STEP = 16, 23
_TITLE_HEIGHT, _PANEL_GAP = 26, 14
_CAP = 4  # half the height of a whisker's ends

_STYLE = """
    text { font: 13px system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #1f2328 }
    .title { font-weight: 600 }
    .figure { fill: #59636e }
    .page { fill: #ffffff; stroke: #d1d9e0 }
    .ours { fill: #0969da }
    .theirs { fill: #afb8c1 }
    .whisker { stroke: #1f2328; fill: none }
    @media (prefers-color-scheme: dark) {
      text { fill: #f0f6fc }
      .figure { fill: #9198a1 }
      .page { fill: #0d1117; stroke: #3d444d }
      .ours { fill: #4493f8 }
      .theirs { fill: #656c76 }
      .whisker { stroke: #f0f6fc }
    }
"""


@dataclass(frozen=True)
class Panel:
    """Contenders of one row, hubd first."""

    row: str
    contenders: Mapping[str, str]  # the label, and whose series it is
    title: str = ""  # in place of the row's own

    def bars(self, row: Row) -> list[tuple[str, Series]]:
        series = {found.contender: found for found in row.series}
        return [(label, series[contender]) for label, contender in self.contenders.items()]


_ARIA2 = {"aria2 -x8, then tar": transfers.ARIA2_X8_AND_TAR}
_FETCHED = {"hubd": transfers.HUBD, "tensorflow_hub": transfers.TENSORFLOW_HUB}


def _libraries(contender: str) -> dict[str, str]:
    return {"hubd": contender.format("hubclient"), "tensorflow_hub": contender.format("tensorflow_hub")}


PANELS = (
    Panel("cold", _FETCHED | {"curl into tar": transfers.CURL_AND_TAR} | _ARIA2),
    Panel("throttled", _FETCHED | _ARIA2 | {"aria2 -x16, then tar": transfers.ARIA2_X16_AND_TAR}),
    Panel("far", _FETCHED | _ARIA2 | {"aria2 -x16, then tar": transfers.ARIA2_X16_AND_TAR}),
    Panel("processes", _libraries("{}, 8 processes, small"), "8 processes ask for a module of 4 KB that is not cached"),
    Panel("hit", _libraries("{}.resolve, repeated (p50)"), "cached, asked for again in one process"),
    Panel("predict", _libraries("tiny, {}"), "from a new process to its first prediction: a tiny model"),
    Panel("predict", _libraries("mobilenet_v2, {}"), "from a new process to its first prediction: MobileNetV2"),
    Panel("predict", _libraries("bert_base, {}"), "from a new process to its first prediction: of BERT-base's size"),
    Panel("resources", _libraries("{}, CPU"), "CPU of a cold fetch"),
)


def draw(rows: Sequence[Row], panels: Sequence[Panel] = PANELS) -> str:
    """The drawing of those panels whose rows were measured. Raises `KeyError` for a contender that its row lacks."""
    found = {row.name: row for row in rows}
    shown = [
        (panel.title or found[panel.row].title, panel.bars(found[panel.row])) for panel in panels if panel.row in found
    ]
    heights = [_TITLE_HEIGHT + len(bars) * _STEP + _PANEL_GAP for _, bars in shown]
    height = 2 * _MARGIN + sum(heights) - (_PANEL_GAP if heights else 0)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
        ' role="img">',
        "<title>hubd and its peers: shorter bars are better</title>",
        f"<style>{_STYLE}</style>",
        f'<rect class="page" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="6"/>',
    ]
    top = _MARGIN
    for (title, bars), panel_height in zip(shown, heights, strict=True):
        lines.extend(_panel(title, bars, top))
        top += panel_height
    return "\n".join([*lines, "</svg>", ""])


def _panel(title: str, bars: Sequence[tuple[str, Series]], top: float) -> Iterator[str]:
    longest = max(max(series.samples) for _, series in bars)
    scale = _BARS_WIDTH / longest if longest > 0 else 0.0
    yield f'<text class="title" x="{_MARGIN}" y="{top + 13}">{escape(title)}</text>'
    for number, (label, series) in enumerate(bars):
        y = top + _TITLE_HEIGHT + number * _STEP
        middle = y + _BAR_HEIGHT / 2
        least, most = (_BARS_X + scale * value for value in (min(series.samples), max(series.samples)))
        yield f'<text x="{_BARS_X - 10}" y="{middle + 4.5:.1f}" text-anchor="end">{escape(label)}</text>'
        yield (
            f'<rect class="{"theirs" if number else "ours"}" x="{_BARS_X}" y="{y}"'
            f' width="{scale * series.median:.2f}" height="{_BAR_HEIGHT}"/>'
        )
        yield (
            f'<path class="whisker" d="M{least:.2f} {middle - _CAP}v{2 * _CAP}M{least:.2f} {middle}H{most:.2f}'
            f'M{most:.2f} {middle - _CAP}v{2 * _CAP}"/>'
        )
        yield (
            f'<text class="figure" x="{most + 8:.2f}" y="{middle + 4.5:.1f}">'
            f"{escape(figure(series.median, series.unit))}</text>"
        )

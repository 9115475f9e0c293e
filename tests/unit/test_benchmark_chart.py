"""The drawing that `make bench` makes of its rows."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from benchmarks import chart
from benchmarks.chart import Panel
from benchmarks.report import Row, Series

SVG = "{http://www.w3.org/2000/svg}"
OURS = Series("ours <1>", (2.0, 1.0, 4.0), "s")
THEIRS = Series("theirs & co", (8.0, 10.0, 8.0), "s")
ROW = Row("row", "a < b & c", [OURS, THEIRS])
PANEL = Panel("row", {"hubd": OURS.contender, "<peer>": THEIRS.contender})


def drawn(*rows: Row, panels: tuple[Panel, ...] = (PANEL,)) -> ElementTree.Element:
    return ElementTree.fromstring(chart.draw(rows, panels))


def bars(drawing: ElementTree.Element) -> list[ElementTree.Element]:
    return [rect for rect in drawing.iter(f"{SVG}rect") if rect.get("class") in ("ours", "theirs")]


def test_bars_are_as_long_as_their_medians() -> None:
    ours, theirs = bars(drawn(ROW))
    assert (ours.get("class"), theirs.get("class")) == ("ours", "theirs")
    assert float(theirs.attrib["width"]) == pytest.approx(float(ours.attrib["width"]) * 8.0 / 2.0, rel=0.001)


def test_whiskers_go_from_the_least_to_the_most() -> None:
    drawing = drawn(ROW)
    bar = bars(drawing)[0]
    length = float(bar.attrib["width"]) / OURS.median
    whisker = next(drawing.iter(f"{SVG}path")).attrib["d"]
    least, most = (float(re.findall(pattern, whisker)[0]) for pattern in (r"M([\d.]+)", r"H([\d.]+)"))
    assert least == pytest.approx(float(bar.attrib["x"]) + 1.0 * length, abs=0.1)
    assert most == pytest.approx(float(bar.attrib["x"]) + 4.0 * length, abs=0.1)


def test_labels_and_titles_are_text_whatever_is_in_them() -> None:
    texts = [text.text for text in drawn(ROW).iter(f"{SVG}text")]
    assert texts == ["a < b & c", "hubd", "2.00 s", "<peer>", "8.00 s"]


def test_all_of_it_lies_within_the_drawing() -> None:
    drawing = drawn(ROW, panels=(PANEL, PANEL, PANEL))
    height = float(drawing.attrib["height"])
    assert drawing.attrib["viewBox"] == f"0 0 {chart.WIDTH} {drawing.attrib['height']}"
    assert all(float(text.attrib["y"]) < height for text in drawing.iter(f"{SVG}text"))
    assert all(float(bar.attrib["x"]) + float(bar.attrib["width"]) < chart.WIDTH for bar in bars(drawing))


def test_a_row_that_was_not_measured_has_no_panel() -> None:
    other = Panel("other", {"hubd": "nobody"})
    assert len(bars(drawn(ROW, panels=(PANEL, other)))) == 2


def test_a_contender_that_its_row_lacks_is_an_error() -> None:
    with pytest.raises(KeyError, match="nobody"):
        drawn(ROW, panels=(Panel("row", {"hubd": "nobody"}),))

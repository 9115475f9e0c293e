"""The table and the JSON of what was measured."""

from __future__ import annotations

import json
import re
from pathlib import Path

from benchmarks import report
from benchmarks.report import Finding, Goal, Row, Series

ROW = Row(
    "row",
    "two contenders",
    [Series("ours", (2.0, 1.0, 4.0), "s"), Series("theirs", (8.0, 10.0, 8.0), "s")],
    [Goal("half", 0.25, 0.5), Goal("a tenth", 0.25, 0.1)],
    [Finding("share", 20.0, "%")],
)


def test_the_table_tells_spread_goals_and_findings(tmp_path: Path) -> None:
    table = report.table([ROW])
    assert re.search(r"ours +2\.00 s +\(1\.00 s - 4\.00 s\)", table)
    assert "=> half: 0.250 x, goal at most 0.500 x: met" in table
    assert "=> a tenth: 0.250 x, goal at most 0.100 x: MISSED" in table
    assert "-- share: 20.00 %" in table
    report.write_json(tmp_path / "report.json", [ROW], {"rounds": 3})
    (row,) = json.loads((tmp_path / "report.json").read_text())["rows"]
    assert row["findings"] == [{"text": "share", "value": 20.0, "unit": "%"}]

"""What was measured, as a table for people and as JSON for programs.

Law: a figure is shown with its unit, its spread and its goal, met or not; nothing is left out because it looks bad.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Series:
    """One contender's samples, one from each round."""

    contender: str
    samples: tuple[float, ...]
    unit: str  # "s", "ms", "us", "MB", ...

    @property
    def median(self) -> float:
        return median(self.samples)


@dataclass(frozen=True)
class Goal:
    """A measured value and the limit that it must not pass."""

    text: str
    value: float
    limit: float
    unit: str = "x"

    @property
    def met(self) -> bool:
        return self.value <= self.limit


@dataclass(frozen=True)
class Finding:
    """What follows from the series, and has no goal."""

    text: str
    value: float
    unit: str = "x"


@dataclass(frozen=True)
class Row:
    """One question and its answer."""

    name: str
    title: str
    series: Sequence[Series]
    goals: Sequence[Goal] = ()
    findings: Sequence[Finding] = ()


def ratio(text: str, ours: Series, theirs: Series, limit: float) -> Goal:
    """The goal that the median of `ours` is at most `limit` times the median of `theirs`."""
    return Goal(text, ours.median / theirs.median, limit)


def table(rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        lines.append(f"{row.name}: {row.title}")
        lines.extend(
            f"    {series.contender:<50} {figure(series.median, series.unit):>12}"
            f"   ({figure(min(series.samples), series.unit)} - {figure(max(series.samples), series.unit)})"
            for series in row.series
        )
        lines.extend(
            f"    => {goal.text}: {figure(goal.value, goal.unit)}, goal at most {figure(goal.limit, goal.unit)}:"
            f" {'met' if goal.met else 'MISSED'}"
            for goal in row.goals
        )
        lines.extend(f"    -- {found.text}: {figure(found.value, found.unit)}" for found in row.findings)
        lines.append("")
    return "\n".join(lines)


def write_json(path: Path, rows: Sequence[Row], setting: dict[str, Any]) -> None:
    document = {
        "setting": setting
        | {
            "python": platform.python_version(),
            "kernel": platform.release(),
            "machine": platform.machine(),
            "cpus": len(os.sched_getaffinity(0)),
        },
        "rows": [
            {
                "name": row.name,
                "title": row.title,
                "series": [
                    {
                        "contender": series.contender,
                        "unit": series.unit,
                        "median": series.median,
                        "min": min(series.samples),
                        "max": max(series.samples),
                        "samples": series.samples,
                    }
                    for series in row.series
                ],
                "goals": [
                    {"text": goal.text, "value": goal.value, "limit": goal.limit, "unit": goal.unit, "met": goal.met}
                    for goal in row.goals
                ],
                "findings": [{"text": found.text, "value": found.value, "unit": found.unit} for found in row.findings],
            }
            for row in rows
        ],
    }
    path.write_text(json.dumps(document, indent=2) + "\n")


def figure(value: float, unit: str) -> str:
    """The value with its unit, three digits or more."""
    digits = 0 if value >= 1000 else 1 if value >= 100 else 2 if value >= 1 else 3
    return f"{value:,.{digits}f} {unit}"

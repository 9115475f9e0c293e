"""What every row of the table needs, and how its contenders take turns.

Law: one sample of each contender in each round, and each round begins with another one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.origin import Origin
from benchmarks.report import Series


class CannotMeasure(RuntimeError):
    """Why a row is left out on this machine."""


@dataclass(frozen=True)
class Bench:
    """What every row needs."""

    origin: Origin
    peer: Path
    work: Path
    rounds: int

    def interleaved(self, measure: Mapping[str, Callable[[], float]], unit: str) -> dict[str, Series]:
        """One sample of each contender in each round."""
        samples: dict[str, list[float]] = {name: [] for name in measure}
        names = list(measure)
        for number in range(self.rounds):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                value = measure[name]()
                samples[name].append(value)
                print(f"  round {number + 1} of {self.rounds}: {name}: {value:.4g} {unit}", file=sys.stderr, flush=True)
        return {name: Series(name, tuple(values), unit) for name, values in samples.items()}

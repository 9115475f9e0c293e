"""What the daemon answered and received since it started."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["hit", "fetched", "joined", "stale"]


@dataclass
class Counters:
    """Answers and bytes since the daemon started."""

    hits: int = 0
    fetched: int = 0
    joined: int = 0
    stale: int = 0
    failed: int = 0
    received_bytes: int = 0
    evicted: int = 0  # trees
    evicted_bytes: int = 0  # on disk
    uses: int = 0  # direct hits that clients reported

    def answered(self, outcome: Outcome) -> None:
        match outcome:
            case "hit":
                self.hits += 1
            case "fetched":
                self.fetched += 1
            case "joined":
                self.joined += 1
            case "stale":
                self.stale += 1

"""What the daemon answered and received since it started."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from hubd.network.sources import TierName

Outcome = Literal["hit", "fetched", "joined", "stale"]


@dataclass
class Counters:
    """Answers and bytes since the daemon started."""

    hits: int = 0
    fetched: int = 0
    joined: int = 0
    stale: int = 0
    failed: int = 0
    received_bytes: int = 0  # over the network
    resumed: int = 0  # fetches that went on from a partial download
    evicted: int = 0  # trees
    evicted_bytes: int = 0  # on disk
    uses: int = 0  # direct hits that clients reported
    reloads: int = 0  # of the configuration
    reload_failures: int = 0
    errors: Counter[str] = field(default_factory=Counter)  # of `failed`, by code
    answers_by_tier: Counter[str] = field(default_factory=Counter)  # where what was answered came from
    received_by_tier: Counter[str] = field(default_factory=Counter)  # of `received_bytes`
    ended: Counter[str] = field(default_factory=Counter)  # fetches, by what they came to, failed or cancelled

    def failed_with(self, code: str) -> None:
        self.failed += 1
        self.errors[code] += 1

    def received(self, size_bytes: int, tier: TierName) -> None:
        self.received_bytes += size_bytes
        self.received_by_tier[tier] += size_bytes

    def answered(self, outcome: Outcome, tier: TierName) -> None:
        self.answers_by_tier[tier] += 1
        match outcome:
            case "hit":
                self.hits += 1
            case "fetched":
                self.fetched += 1
            case "joined":
                self.joined += 1
            case "stale":
                self.stale += 1

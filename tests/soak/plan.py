"""What each actor of a soak does next, drawn from the seed.

Law: pure; an actor's plan depends on the seed and its own name alone, never on what the others do or on the clock.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

CleanerAct = Literal["delete file", "truncate file", "delete tree", "delete view", "delete record", "truncate record"]
Ending = Literal["exit", "kill", "interrupt"]


class Step(NamedTuple):
    handle: str
    mode: Literal["lease", "resolve"]
    seconds: float


class ClientPlan(NamedTuple):
    """One process: what it does, and how and when it dies (`exit`: by itself)."""

    steps: tuple[Step, ...]
    ending: Ending
    after_seconds: float


class CleanerPlan(NamedTuple):
    """`pick`, `pick_file` in [0, 1): which of what is there."""

    act: CleanerAct
    pick: float
    pick_file: float
    pause_seconds: float


class PrefetchPlan(NamedTuple):
    handles: tuple[str, ...]
    pause_seconds: float


class AdminPlan(NamedTuple):
    """`share` in [0, 1): of the quota, of the modules, of the age, whatever the act needs."""

    act: Literal["prune to size", "prune by age", "prune dry", "verify", "verify and repair", "remove"]
    share: float
    pause_seconds: float


class Cycle(NamedTuple):
    """One life of the daemon. `looks_first`: its books are compared with the disk before, and it is busy again then."""

    seconds: float
    cleaner: bool
    looks_first: bool
    ending: Literal["kill", "stop"]
    killed_while_starting_after: float | None


def clients(seed: int, slot: int, handles: Sequence[str]) -> Iterator[ClientPlan]:
    draw = random.Random(f"{seed}:client:{slot}")
    while True:
        steps = tuple(
            Step(draw.choice(handles), draw.choice(("lease", "lease", "resolve")), draw.choice((0, 0.1, 0.4, 1.5)))
            for _ in range(draw.randint(1, 6))
        )
        endings: tuple[Ending, ...] = ("exit", "exit", "kill", "interrupt")
        yield ClientPlan(steps, draw.choice(endings), draw.uniform(0.05, 3.0))


def cleaner(seed: int) -> Iterator[CleanerPlan]:
    draw = random.Random(f"{seed}:cleaner")
    acts: Sequence[CleanerAct] = (
        *("delete file",) * 5,
        *("truncate file",) * 4,
        *("delete tree",) * 2,
        *("delete view",) * 3,
        "delete record",
        "truncate record",
    )
    while True:
        yield CleanerPlan(draw.choice(acts), draw.random(), draw.random(), draw.uniform(0.02, 0.4))


def prefetches(seed: int, handles: Sequence[str]) -> Iterator[PrefetchPlan]:
    draw = random.Random(f"{seed}:prefetch")
    while True:
        yield PrefetchPlan(tuple(draw.sample(handles, draw.randint(1, 4))), draw.uniform(0.3, 1.5))


def changes(seed: int, mutable: Sequence[str]) -> Iterator[tuple[str, float]]:
    """Which of the modules without a version changes at the origin, and how long to wait before."""
    draw = random.Random(f"{seed}:origin")
    while True:
        yield draw.choice(mutable), draw.uniform(0.5, 4.0)


def administrator(seed: int) -> Iterator[AdminPlan]:
    draw = random.Random(f"{seed}:administrator")
    acts = ("prune to size", "prune by age", "prune dry", "verify", "verify and repair", "verify and repair", "remove")
    while True:
        yield AdminPlan(draw.choice(acts), draw.random(), draw.uniform(0.3, 1.5))  # type: ignore[arg-type]


def cycles(seed: int) -> Iterator[Cycle]:
    draw = random.Random(f"{seed}:daemon")
    for number in itertools.count():
        # The first one always, so that a short soak has it too; without it the books are exact.
        cleaner = number % 2 == 0 or draw.random() < 0.3
        yield Cycle(
            draw.uniform(2.0, 5.0),
            cleaner,
            not cleaner,
            draw.choice(("kill", "kill", "kill", "stop")),
            draw.uniform(0.0, 0.8) if draw.random() < 0.25 else None,
        )

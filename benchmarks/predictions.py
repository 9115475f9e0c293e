"""The rows about using a module: from a new process to its first prediction, and warm calls.

Law: both contenders answer for the same input of the same SavedModel, and a row fails when their answers differ.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import contenders
from benchmarks.bench import Bench
from benchmarks.contenders import Library
from benchmarks.report import Goal, Row, Series, ratio

MODELS = Path(__file__).with_name("models.py")
NAMES = ("tiny", "mobilenet_v2", "bert_base")
# What one round of warm calls takes: about a second.
CALLS = {"tiny": 4_000, "mobilenet_v2": 40, "bert_base": 6}
THREADS = 4

PREDICT_RATIO = {"tiny": 0.15, "mobilenet_v2": 0.20, "bert_base": 0.27}
MEMORY_RATIO = {"bert_base": 0.6}
CALL_RATIO = {"tiny": 0.5, "mobilenet_v2": 1.05, "bert_base": 1.05}
# 1.3 times the calls in a second; networks that keep both cores busy by themselves have nothing to gain there.
THREADS_RATIO = {"tiny": 1 / 1.3}
_TOLERANCE = 1e-4


def predict(bench: Bench) -> Row:
    series: dict[str, Series] = {}
    goals: list[Goal] = []
    for name in NAMES:
        path = _model(bench, name)
        memory: dict[str, list[float]] = {}
        answers: dict[str, list[float]] = {}

        def measure(library: Library, path: Path = path, memory: Any = memory, answers: Any = answers) -> float:
            seconds, answer = library.from_start("predict", library.name, str(path))
            memory.setdefault(library.name, []).append(answer["peak_mb"])
            answers[library.name] = answer["values"]
            return seconds

        timed = bench.interleaved(
            {f"{name}, {library.name}": partial(measure, library) for library in _libraries(bench)}, "s"
        )
        _check(name, answers)
        ours, theirs = timed.values()
        peaks = [Series(f"{name}, {who}, peak memory", tuple(samples), "MB") for who, samples in memory.items()]
        series |= timed | {peak.contender: peak for peak in peaks}
        goals.append(ratio(f"{name}, against tensorflow_hub", ours, theirs, PREDICT_RATIO[name]))
        if name in MEMORY_RATIO:
            goals.append(ratio(f"{name}, memory", peaks[0], peaks[1], MEMORY_RATIO[name]))
    return Row("predict", "a new process, from its start to its first prediction", list(series.values()), goals)


def call(bench: Bench) -> Row:
    columns: dict[str, list[float]] = {}
    for name in NAMES:
        path = _model(bench, name)
        answers: dict[str, list[float]] = {}
        for number in range(bench.rounds):
            libraries = _libraries(bench)
            for library in libraries if number % 2 == 0 else reversed(libraries):
                answer = library.probe("calls", library.name, str(path), str(CALLS[name]), str(THREADS))
                answers[library.name] = answer["values"]
                columns.setdefault(f"{name}, {library.name} (p50)", []).append(answer["p50_us"])
                for threads in (1, THREADS):
                    column = f"{name}, {library.name}, {threads} threads, a call"
                    columns.setdefault(column, []).append(answer[f"threads_{threads}_us"])
        _check(name, answers)
    series = {column: Series(column, tuple(samples), "us") for column, samples in columns.items()}
    goals = []
    for name in NAMES:
        ours, theirs = (series[f"{name}, {library.name} (p50)"] for library in _libraries(bench))
        goals.append(ratio(f"{name}, a warm call", ours, theirs, CALL_RATIO[name]))
        if name in THREADS_RATIO:
            ours, theirs = (
                series[f"{name}, {library.name}, {THREADS} threads, a call"] for library in _libraries(bench)
            )
            goals.append(ratio(f"{name}, {THREADS} threads, a call", ours, theirs, THREADS_RATIO[name]))
    return Row("call", "warm calls of a signature, numpy in and numpy out", list(series.values()), goals)


def _libraries(bench: Bench) -> list[Library]:
    environment = contenders.clean_environment() | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    return [
        Library("hubclient", Path(sys.executable), environment),
        Library("tensorflow_hub", bench.peer, environment),
    ]


def _model(bench: Bench, name: str) -> Path:
    """The SavedModel of that name, made unless it is there."""
    path = bench.work.parent / "models" / name
    if not path.exists():
        print(f"making the model {name} (once) ...", file=sys.stderr, flush=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(f"{path}.part", ignore_errors=True)
        environment = contenders.clean_environment() | {"TF_CPP_MIN_LOG_LEVEL": "3"}
        subprocess.run(
            [sys.executable, "-P", str(MODELS), name, str(path)],
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=contenders.TIMEOUT_SECONDS,
        )
    _read(path)
    return path


def _read(path: Path) -> None:
    """Have the files in the page cache, so that the first contender does not pay for the disk."""
    for file in path.rglob("*"):
        if file.is_file():
            with file.open("rb", buffering=0) as stream:
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_WILLNEED)
                while stream.read(1 << 20):
                    pass


def _check(name: str, answers: Mapping[str, list[float]]) -> None:
    first, second = answers.values()
    largest = max(map(abs, first))
    close = (abs(one - other) <= _TOLERANCE * largest for one, other in zip(first, second, strict=True))
    if not largest > 0 or not all(close):  # NaN is close to nothing
        raise RuntimeError(f"the answers for {name} differ, or say nothing")

"""The rows of the table: what is measured, against whom, and how good it has to be.

Law: contenders take turns, round by round and each round in another order, so that a slow minute of the machine hits
all of them; every figure is the median of the rounds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

from benchmarks import busy, contenders, fleet, hosting, predictions, resources, scale, transfers, verifying
from benchmarks.bench import Bench
from benchmarks.report import Goal, Row, Series, ratio
from benchmarks.transfers import by_hubd, by_tensorflow_hub

PROCESSES = 8
HITS = 5_000
ASKED = 2_000
IMPORTS_PER_ROUND = 20
IDLE_SECONDS = 1.0

PROCESSES_RATIO = 1.1
HIT_RATIO = 0.5
HIT_MICROSECONDS = 20.0
ASKED_MILLISECONDS = 0.5
IMPORT_MILLISECONDS = 10.0
READY_SECONDS = 0.6
IDLE_MB = 60.0


def processes(bench: Bench) -> Row:
    one, many = "hubclient, 1 process, large", f"hubclient, {PROCESSES} processes, large"
    series = bench.interleaved(
        {
            one: lambda: by_hubd(bench, "large"),
            many: lambda: by_hubd(bench, "large", PROCESSES),
            "hubclient, 1 process, small": lambda: by_hubd(bench, "small"),
            f"hubclient, {PROCESSES} processes, small": lambda: by_hubd(bench, "small", PROCESSES),
            "tensorflow_hub, 1 process, small": lambda: by_tensorflow_hub(bench, "small"),
            f"tensorflow_hub, {PROCESSES} processes, small": lambda: by_tensorflow_hub(bench, "small", PROCESSES),
        },
        "s",
    )
    return Row(
        "processes",
        f"{PROCESSES} processes ask for one cold handle; until the last one has it",
        list(series.values()),
        [ratio("against one process", series[many], series[one], PROCESSES_RATIO)],
    )


def hit(bench: Bench) -> Row:
    handle = bench.origin.handle("small")
    columns: dict[str, list[float]] = {}
    with contenders.hubd(bench.work) as daemon, contenders.tensorflow_hub(bench.peer, bench.work) as theirs:
        ours = daemon.library()
        for library in (ours, theirs):
            library.resolve(handle)
        for number in range(bench.rounds):
            turns = [ours, theirs] if number % 2 == 0 else [theirs, ours]
            for library in turns:
                answer = library.probe("hits", library.name, handle, str(HITS))
                columns.setdefault(f"{library.name}.resolve, repeated (p50)", []).append(answer["p50_us"])
                columns.setdefault(f"{library.name}.resolve, first", []).append(answer["first_us"])
                if "lease_p50_us" in answer:
                    columns.setdefault(f"with {library.name}.lease (p50)", []).append(answer["lease_p50_us"])
    series = {name: Series(name, tuple(samples), "us") for name, samples in columns.items()}
    repeated = series["hubclient.resolve, repeated (p50)"]
    return Row(
        "hit",
        "hit in process, the module cached",
        list(series.values()),
        [
            ratio(
                "against tensorflow_hub, repeated",
                repeated,
                series["tensorflow_hub.resolve, repeated (p50)"],
                HIT_RATIO,
            ),
            Goal("hubclient.resolve, repeated", repeated.median, HIT_MICROSECONDS, "us"),
        ],
    )


def asked(bench: Bench) -> Row:
    handle = bench.origin.handle("small")
    titles = {
        "plain_p50_us": "POST /v1/resolve, kept alive (p50)",
        "plain_p99_us": "POST /v1/resolve, kept alive (p99)",
        "streamed_p50_us": "the same, asking for progress (p50)",
        "streamed_p99_us": "the same, asking for progress (p99)",
    }
    with contenders.hubd(bench.work) as daemon:
        library = daemon.library()
        library.resolve(handle)
        answers = [library.probe("daemon", handle, str(ASKED)) for _ in range(bench.rounds)]
    series = {
        column: Series(title, tuple(answer[column] / 1000 for answer in answers), "ms")
        for column, title in titles.items()
    }
    return Row(
        "asked",
        "hit through the daemon",
        list(series.values()),
        [Goal("p50", series["plain_p50_us"].median, ASKED_MILLISECONDS, "ms")],
    )


def imports(bench: Bench) -> Row:
    def start(python: Path, program: str, times: int) -> float:
        return 1000 * median(contenders.timed([str(python), "-c", program]) for _ in range(times))

    ours = Path(sys.executable)
    series = bench.interleaved(
        {
            "python -c pass": lambda: start(ours, "pass", IMPORTS_PER_ROUND),
            "python -c 'import hubclient'": lambda: start(ours, "import hubclient", IMPORTS_PER_ROUND),
            "python -c 'import tensorflow_hub'": lambda: start(bench.peer, "import tensorflow_hub", 1),
        },
        "ms",
    )
    added = series["python -c 'import hubclient'"].median - series["python -c pass"].median
    return Row(
        "import",
        "a whole interpreter, from start to end",
        list(series.values()),
        [Goal("what import hubclient adds", added, IMPORT_MILLISECONDS, "ms")],
    )


def daemon(bench: Bench) -> Row:
    ready: list[float] = []
    resident: list[float] = []
    proportional: list[float] = []
    after: list[float] = []
    for _ in range(bench.rounds):
        with contenders.hubd(bench.work) as running:
            ready.append(running.ready_seconds)
            time.sleep(IDLE_SECONDS)
            rss_mb, pss_mb = running.memory_mb()
            resident.append(rss_mb)
            proportional.append(pss_mb)
            running.library().resolve(bench.origin.handle("large"))
            time.sleep(IDLE_SECONDS)
            after.append(running.memory_mb()[0])
    start = Series("from start until GET /v1/status answers", tuple(ready), "s")
    idle = Series("idle, resident", tuple(resident), "MB")
    return Row(
        "daemon",
        "start and memory of the daemon",
        [
            start,
            idle,
            Series("idle, proportional", tuple(proportional), "MB"),
            Series("idle after a large fetch, resident", tuple(after), "MB"),
        ],
        [
            Goal("ready", start.median, READY_SECONDS, "s"),
            Goal("idle, resident", idle.median, IDLE_MB, "MB"),
        ],
    )


ROWS: Mapping[str, Callable[[Bench], Row]] = {
    "cold": transfers.cold,
    "throttled": transfers.throttled,
    "far": transfers.far,
    "resources": resources.resources,
    "busy": busy.busy,
    "processes": processes,
    "hit": hit,
    "asked": asked,
    "import": imports,
    "daemon": daemon,
    "scale": scale.scale,
    "verify": verifying.verify,
    "host": hosting.host,
    "fleet": fleet.fleet,
    "hosts": fleet.hosts,
    "predict": predictions.predict,
    "call": predictions.call,
}

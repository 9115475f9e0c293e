"""What is measured inside a fresh process; prints one line of JSON. Runs under hubd's Python and under the peer's.

    probe.py resolve LIBRARY HANDLE         one call; waits for a line on stdin when its imports are done
    probe.py hits LIBRARY HANDLE COUNT      the first hit, then repeated ones, then `with lease` where there is one
    probe.py daemon HANDLE COUNT            answers of the daemon, over one kept-alive connection

Law: imports of the library are not part of any figure; whatever the call itself imports is. Times of `resolve` are
of CLOCK_MONOTONIC, so that those of several processes can be compared.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable
from typing import Any


def resolve(library: str, handle: str) -> dict[str, Any]:
    call = importlib.import_module(library).resolve
    print("ready", flush=True)
    sys.stdin.readline()
    begun = time.monotonic()
    path = call(handle)
    return {"begun": begun, "ended": time.monotonic(), "path": path}


def hits(library: str, handle: str, count: int) -> dict[str, Any]:
    module = importlib.import_module(library)
    call, lease = module.resolve, getattr(module, "lease", None)
    result = {"first_us": samples_us(lambda: call(handle), 1)[0]}
    result["p50_us"] = percentile(samples_us(lambda: call(handle), count), 50)
    if lease is not None:

        def hold_and_release() -> None:
            with lease(handle):
                pass

        result["lease_p50_us"] = percentile(samples_us(hold_and_release, count), 50)
    return result


def daemon(handle: str, count: int) -> dict[str, Any]:
    from hubclient.daemon import reach

    with reach() as running:
        running.resolve(handle)
        plain = samples_us(lambda: running.post("/v1/resolve", {"handle": handle}), count)
        streamed = samples_us(lambda: running.resolve(handle), count)
    return {
        "plain_p50_us": percentile(plain, 50),
        "plain_p99_us": percentile(plain, 99),
        "streamed_p50_us": percentile(streamed, 50),
        "streamed_p99_us": percentile(streamed, 99),
    }


def samples_us(call: Callable[[], object], count: int) -> list[float]:
    clock = time.perf_counter_ns
    samples = []
    for _ in range(count):
        begun = clock()
        call()
        samples.append((clock() - begun) / 1000)
    return samples


def percentile(samples: list[float], percent: int) -> float:
    return sorted(samples)[min(len(samples) - 1, len(samples) * percent // 100)]


def main(what: str, *arguments: str) -> dict[str, Any]:
    if what == "resolve":
        return resolve(*arguments)
    if what == "hits":
        return hits(arguments[0], arguments[1], int(arguments[2]))
    if what == "daemon":
        return daemon(arguments[0], int(arguments[1]))
    raise SystemExit(f"no such probe: {what}")


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])), flush=True)

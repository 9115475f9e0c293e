"""The rows about a module that no cache has yet: from a fast origin, a throttled one, and one far away.

Law: a contender has the module unpacked when its time ends, or its name says that it has not. Whoever needs gunzip
gets the faster one, igzip; hubd alone checks every byte and syncs the module to the disk.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial

from benchmarks import contenders
from benchmarks.bench import Bench
from benchmarks.contenders import Library
from benchmarks.report import Finding, Row, Series, ratio

HUBD, TENSORFLOW_HUB = "hubclient.resolve", "tensorflow_hub.resolve"
CURL_AND_TAR = "curl into igzip into tar"
ARIA2_X8_AND_TAR, ARIA2_X16_AND_TAR = "aria2 -x8, then igzip and tar", "aria2 -x16, then igzip and tar"
CURL_ALONE, IGZIP_ALONE = "curl alone: transfer", "igzip alone: inflate"
SHA256_ALONE, DD_ALONE = "sha256 alone: hash", "dd alone: write and sync"

COLD_RATIO = 0.45
THROTTLED_RATIO = 0.2
FAR_RATIO = 0.25  # a fifth is what the limits allow
ARIA2_RATIO = 1.0

FAR_ROUND_TRIP_SECONDS = 0.05
FAR_BYTES_PER_SECOND_OF_A_CONNECTION = 10_000_000  # a window of 512 KB for each round trip
FAR_BYTES_PER_SECOND_OF_ALL = 50_000_000

_SHA256 = "import hashlib, sys; hashlib.file_digest(open(sys.argv[1], 'rb'), 'sha256')"


def by_hubd(bench: Bench, name: str, count: int = 1) -> float:
    """Seconds until `count` processes have the module of that name, which no cache has yet."""
    with contenders.hubd(bench.work) as daemon:
        return _fetch(bench, daemon.library(), name, count)


def by_tensorflow_hub(bench: Bench, name: str, count: int = 1) -> float:
    with contenders.tensorflow_hub(bench.peer, bench.work) as library:
        return _fetch(bench, library, name, count)


def cold(bench: Bench) -> Row:
    archive = bench.origin.archives["large"]
    dd = ["dd", "if=/dev/zero", "of=DIRECTORY/weights", "bs=1M", f"count={archive.weights_bytes >> 20}", "conv=fsync"]
    alone = {
        CURL_ALONE: ["curl", "-sS", "-o", "DIRECTORY/archive", bench.origin.handle("large")],
        IGZIP_ALONE: ["igzip", "-d", "-c", str(archive.path)],
        SHA256_ALONE: [sys.executable, "-c", _SHA256, str(archive.path)],
        DD_ALONE: dd,
    }
    series = bench.interleaved(
        {
            HUBD: lambda: by_hubd(bench, "large"),
            TENSORFLOW_HUB: lambda: by_tensorflow_hub(bench, "large"),
            CURL_AND_TAR: lambda: _by_curl_and_tar(bench, "large"),
            ARIA2_X8_AND_TAR: lambda: _by_aria2_and_tar(bench, "large", 8),
        }
        | {name: partial(_timed, bench, command) for name, command in alone.items()},
        "s",
    )
    return Row(
        "cold",
        f"cold fetch of an archive of {archive.size_bytes / 1e6:.0f} MB over loopback",
        list(series.values()),
        [
            ratio("against tensorflow_hub", series[HUBD], series[TENSORFLOW_HUB], COLD_RATIO),
            ratio("against aria2 -x8 and tar", series[HUBD], series[ARIA2_X8_AND_TAR], ARIA2_RATIO),
        ],
        _stages(series),
    )


def throttled(bench: Bench) -> Row:
    there = replace(bench, origin=bench.origin.throttled())
    return _slow(there, "throttled", "20 MB/s for each connection", THROTTLED_RATIO)


def far(bench: Bench) -> Row:
    limits = (FAR_BYTES_PER_SECOND_OF_A_CONNECTION, FAR_BYTES_PER_SECOND_OF_ALL)
    with bench.origin.far(FAR_ROUND_TRIP_SECONDS, *limits) as origin:
        title = (
            f"{FAR_ROUND_TRIP_SECONDS * 1000:.0f} ms away, "
            f"{limits[0] / 1e6:.0f} MB/s for each connection, {limits[1] / 1e6:.0f} MB/s in all"
        )
        return _slow(replace(bench, origin=origin), "far", title, FAR_RATIO)


def _slow(bench: Bench, name: str, title: str, limit: float) -> Row:
    """An origin where several connections are what helps."""
    series = bench.interleaved(
        {
            HUBD: lambda: by_hubd(bench, "medium"),
            TENSORFLOW_HUB: lambda: by_tensorflow_hub(bench, "medium"),
            ARIA2_X8_AND_TAR: lambda: _by_aria2_and_tar(bench, "medium", 8),
            ARIA2_X16_AND_TAR: lambda: _by_aria2_and_tar(bench, "medium", 16),
        },
        "s",
    )
    ours = series[HUBD]
    return Row(
        name,
        f"cold fetch of an archive of {bench.origin.archives['medium'].size_bytes / 1e6:.0f} MB, {title}",
        list(series.values()),
        [
            ratio("against tensorflow_hub", ours, series[TENSORFLOW_HUB], limit),
            ratio("against aria2 -x8 and tar", ours, series[ARIA2_X8_AND_TAR], ARIA2_RATIO),
        ],
        [Finding("against aria2 -x16 and tar", ours.median / series[ARIA2_X16_AND_TAR].median)],
    )


def _stages(series: dict[str, Series]) -> list[Finding]:
    """How long each stage takes alone: they run beside each other, so the longest one is the limit."""
    whole = series[HUBD].median
    limit = max(series[CURL_ALONE].median, series[IGZIP_ALONE].median)
    return [
        Finding("distance to the limit, the slower of curl alone and igzip alone", whole / limit),
        *(
            Finding(f"{name}, of the whole fetch", 100 * series[name].median / whole, "%")
            for name in (CURL_ALONE, SHA256_ALONE, IGZIP_ALONE, DD_ALONE)
        ),
    ]


def _fetch(bench: Bench, library: Library, name: str, count: int) -> float:
    resolved = library.resolve(bench.origin.handle(name), count)
    for path in resolved.paths:
        bench.origin.archives[name].check(path)
    return resolved.seconds


def _by_curl_and_tar(bench: Bench, name: str) -> float:
    """One stream, unpacked as it arrives."""
    pipe = f"curl -sS '{bench.origin.handle(name)}' | igzip -d -c | tar -xf - -C DIRECTORY"
    return _timed(bench, ["bash", "-c", f"set -o pipefail; {pipe}"], unpacks=name)


def _by_aria2_and_tar(bench: Bench, name: str, connections: int) -> float:
    """Several connections, then unpacking: aria2 fetches in no order that could be unpacked meanwhile."""
    aria2 = ["aria2c", "-q", f"-x{connections}", f"-s{connections}"]
    # By its defaults aria2 would not split what is smaller than 40 MB, and would first write zeros in place of all.
    aria2 += ["--min-split-size=1M", "--file-allocation=none"]
    aria2 += ["-d", "DIRECTORY", "-o", "archive", bench.origin.handle(name)]
    tar = ["tar", "-I", "igzip", "-xf", "DIRECTORY/archive", "-C", "DIRECTORY"]
    return _timed(bench, aria2, tar, unpacks=name)


def _timed(bench: Bench, *commands: list[str], unpacks: str | None = None) -> float:
    """Seconds of commands, one after the other, with a directory of their own, which then has the module."""
    with contenders.directory(bench.work) as directory:
        seconds = sum(
            contenders.timed([argument.replace("DIRECTORY", str(directory)) for argument in command])
            for command in commands
        )
        if unpacks is not None:
            bench.origin.archives[unpacks].check(str(directory))
        return seconds

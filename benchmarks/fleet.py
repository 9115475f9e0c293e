"""The rows about a fleet: one machine that takes a module from its store, and eight that nobody has given it yet.

Law: what the store serves is the same for all contenders, and no origin is asked where none is needed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import contenders
from benchmarks.bench import Bench, CannotMeasure
from benchmarks.report import Finding, Goal, Row, Series, ratio
from benchmarks.transfers import HUBD
from hubclient.contract import handles
from hubd.fleet.records import FleetRecord, archive_path, record_path
from tests.support import star
from tests.support.site import PATH, module_of, site

OBSTORE_AND_TAR = "obstore into igzip into tar"
RANGES = 8
OBSTORE_X8_AND_TAR = f"obstore by {RANGES} ranges at a time, then igzip and tar"
FLEET_RATIO = 1.1

HOSTS = 8
HOSTS_RATIO = 1.5
MODULE_BYTES = 200_000_000
HOST_BYTES_PER_SECOND = 8_000_000  # eight times this leaves two cores that do the work of ten machines some rest

_BUCKET, _PREFIX = "store", "shared"


def fleet(bench: Bench) -> Row:
    archive = bench.origin.archives["large"]
    with _shared(bench, "large") as digest:
        series = bench.interleaved(
            {
                HUBD: lambda: _by_hubd(bench, "large"),
                OBSTORE_AND_TAR: lambda: _by_obstore(bench, "large", digest, 1),
                OBSTORE_X8_AND_TAR: lambda: _by_obstore(bench, "large", digest, RANGES),
            },
            "s",
        )
    return Row(
        "fleet",
        f"cold fetch of an archive of {archive.size_bytes / 1e6:.0f} MB from the fleet's store over loopback",
        list(series.values()),
        [
            ratio("against obstore into igzip into tar", series[HUBD], series[OBSTORE_AND_TAR], FLEET_RATIO),
            ratio("against obstore by ranges, and tar", series[HUBD], series[OBSTORE_X8_AND_TAR], FLEET_RATIO),
        ],
    )


def hosts(bench: Bench) -> Row:
    """On hosts in network namespaces, each with its own line to the store; so as root."""
    if reason := star.missing():
        raise CannotMeasure(reason)
    module = module_of(MODULE_BYTES)
    everybody: list[float] = []
    to_record: list[float] = []
    one: list[float] = []
    asked: list[float] = []
    for number in range(bench.rounds):
        # Sockets have short paths, and the clone may lie deep.
        line = star.Link(down=HOST_BYTES_PER_SECOND)
        with TemporaryDirectory(prefix="hubd-bench-") as place, site(Path(place), HOSTS + 1, line) as made:
            crowd = made.crowd(HOSTS, module)
            asked.append(len(made.origin.asked(PATH)))
        everybody.append(crowd.seconds)
        to_record.append(crowd.seconds_to_record)
        one.append(crowd.one.seconds)
        print(
            f"  round {number + 1} of {bench.rounds}: {crowd.seconds:.2f} s, one: {crowd.one.seconds:.2f} s",
            file=sys.stderr,
            flush=True,
        )
        os.sync()
    together, alone = Series(f"{HOSTS} hosts at once", tuple(everybody), "s"), Series("one", tuple(one), "s")
    record = Series("of the former, until the record is there", tuple(to_record), "s")
    return Row(
        "hosts",
        f"{MODULE_BYTES / 1e6:.0f} MB for {HOSTS} hosts, and for one that takes what is there; "
        f"each has {HOST_BYTES_PER_SECOND / 1e6:.0f} MB/s from the store",
        [together, record, alone],
        [
            ratio("against one that takes it from the store", together, alone, HOSTS_RATIO),
            Goal("requests to the origin", max(asked), 1, ""),
        ],
        [Finding("the same from the record on", (together.median - record.median) / alone.median)],
    )


@contextlib.contextmanager
def _shared(bench: Bench, name: str) -> Iterator[str]:
    """The module is in the store as a machine of the fleet leaves it, until the block is left; the archive's digest."""
    handle = handles.canonical(bench.origin.handle(name))
    archive, place = bench.origin.archives[name].path, bench.origin.bucket / _PREFIX
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    with contenders.hubd(bench.work) as daemon:
        key = daemon.ask("POST", "/v1/resolve", {"handle": handle})["key"]
        content_digest = daemon.ask("GET", f"/v1/modules/{key}")["content_digest"]
    record = FleetRecord(
        handle=handle, digest=digest, content_digest=content_digest, archive_bytes=archive.stat().st_size
    )
    try:
        for path in (record_path(record.key), archive_path(digest)):
            (place / path).parent.mkdir(parents=True, exist_ok=True)
        os.link(archive, place / archive_path(digest))
        (place / record_path(record.key)).write_bytes(record.body())
        yield digest
    finally:
        shutil.rmtree(place)


def _by_hubd(bench: Bench, name: str) -> float:
    config = f'[fleet]\nstore = "s3://{_BUCKET}/{_PREFIX}"\nmode = "read-only"\n'
    config += f'[[object_store]]\nmatch = "s3://{_BUCKET}"\nendpoint = "{bench.origin.address}"\n'
    with contenders.hubd(bench.work, config=config) as daemon:
        resolved = daemon.library().resolve(bench.origin.handle(name))
        if daemon.ask("GET", "/v1/fleet")["found"] != 1:
            raise RuntimeError("the module did not come from the fleet")
        bench.origin.archives[name].check(resolved.paths[0])
        return resolved.seconds


def _by_obstore(bench: Bench, name: str, digest: str, ranges: int) -> float:
    with contenders.directory(bench.work) as directory:
        arguments = [bench.origin.address, _BUCKET, f"{_PREFIX}/{archive_path(digest)}", str(directory), str(ranges)]
        command = [sys.executable, "-P", str(contenders.PROBE), "obstore", *arguments]
        begun, (answer,) = contenders.at_once(command, contenders.clean_environment())
        bench.origin.archives[name].check(str(directory))
        return float(answer["ended"]) - begun

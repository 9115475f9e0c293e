"""The row `host`: an archive from `hubd host`, beside the same file from nginx.

Law: both send with sendfile what lies in the page cache, and the client throws it away; so what is compared is how the
two get bytes onto a socket.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.origin import free_port
from benchmarks.report import Row, Series, ratio
from benchmarks.resources import peak_memory_mb

HOST, NGINX = "hubd host", "nginx"
CLIENTS = 8
SPEED = 0.7  # of nginx's

_START_SECONDS = 60.0
_PAUSE_SECONDS = 0.05


def host(bench: Bench) -> Row:
    archive = bench.origin.archives["large"]
    with _hosted(bench, archive.path) as (url, pid):
        series = bench.interleaved(
            {
                HOST: lambda: _downloads(url, 1),
                NGINX: lambda: _downloads(bench.origin.handle("large"), 1),
                f"{HOST}, {CLIENTS} at once": lambda: _downloads(url, CLIENTS),
                f"{NGINX}, {CLIENTS} at once": lambda: _downloads(bench.origin.handle("large"), CLIENTS),
            },
            "s",
        )
        memory = Series(f"{HOST}, peak memory", (peak_memory_mb(Path(f"/proc/{pid}")),), "MB")
    many = (series[f"{HOST}, {CLIENTS} at once"], series[f"{NGINX}, {CLIENTS} at once"])
    return Row(
        "host",
        f"download of an archive of {archive.size_bytes / 1e6:.0f} MB by curl over loopback",
        [*series.values(), memory],
        [
            ratio("against nginx", series[HOST], series[NGINX], 1 / SPEED),
            ratio(f"against nginx, {CLIENTS} at once", *many, 1 / SPEED),
        ],
    )


@contextlib.contextmanager
def _hosted(bench: Bench, archive: Path) -> Iterator[tuple[str, int]]:
    """The archive's URL at a host, and the host's pid, until the block is left."""
    work, port = bench.work / "host", free_port()
    library = work / "library" / "bench" / "large"
    library.mkdir(parents=True)
    os.link(archive, library / "1.tar.gz")
    address = f"127.0.0.1:{port}"
    command = [sys.executable, "-P", "-m", "hubd", "host", str(work / "library"), "--listen", address]
    command += ["--cache-dir", str(work / "cache")]
    with (work / "log").open("wb") as log:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        url = f"http://{address}/bench/large/1?tf-hub-format=compressed"
        _wait(url, server)
        yield url, server.pid
    finally:
        server.terminate()
        server.wait()
        shutil.rmtree(work)


def _wait(url: str, server: subprocess.Popen[bytes]) -> None:
    """Until the archive is there: it is read once before."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"hubd host ended at once, with status {server.returncode}")
        with contextlib.suppress(OSError), urllib.request.urlopen(urllib.request.Request(url, method="HEAD")):
            return
        time.sleep(_PAUSE_SECONDS)
    raise RuntimeError(f"hubd host has no {url}")


def _downloads(url: str, clients: int) -> float:
    """Seconds until so many have all of it."""
    started = time.perf_counter()
    running = [subprocess.Popen(["curl", "-sSf", "-o", "/dev/null", url]) for _ in range(clients)]
    if any(client.wait() for client in running):
        raise RuntimeError(f"curl could not download {url}")
    return time.perf_counter() - started

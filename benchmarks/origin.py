"""The origin of the benchmarks: archives of SavedModels, served by nginx on loopback, fast, throttled or from far away.

Law: archives are made once, from a fixed seed, and kept; nginx and the relay are child processes with settings of their
own, and what nginx writes lies beside them.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import numpy

START_TIMEOUT_SECONDS = 10
THROTTLED_BYTES_PER_SECOND = 20_000_000  # of each connection
RELAY = Path(__file__).with_name("relay.py")
_SEED = 20
_WEIGHTS = "variables/variables.data-00000-of-00001"
# SavedModel{saved_model_schema_version: 1, meta_graphs: [{meta_info_def: {tags: ["serve"]}}]}
# (tensorflow/core/protobuf/saved_model.proto): all that a cache reads of it.
_SAVED_MODEL = b"\x08\x01" + b"\x12\x09" + b"\x0a\x07" + b"\x22\x05serve"
_CONFIGURATION = """
daemon off;
pid "{directory}/nginx.pid";
error_log stderr warn;
worker_processes 1;
{user}
events {{ worker_connections 256; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    default_type application/octet-stream;
    client_body_temp_path "{directory}/body";
    proxy_temp_path "{directory}/proxy";
    fastcgi_temp_path "{directory}/fastcgi";
    uwsgi_temp_path "{directory}/uwsgi";
    scgi_temp_path "{directory}/scgi";
    server {{
        listen 127.0.0.1:{port};
        {locations}
    }}
}}
"""


@dataclass(frozen=True)
class Archive:
    """A packed module and what it unpacks to."""

    path: Path
    weights_bytes: int

    @property
    def size_bytes(self) -> int:
        return self.path.stat().st_size

    def check(self, module: str) -> None:
        """Fail unless `module` is this archive, unpacked whole: a fast wrong answer is no result."""
        size = os.path.getsize(f"{module}/{_WEIGHTS}")
        if size != self.weights_bytes:
            raise RuntimeError(f"{module} holds {size} bytes of weights, not {self.weights_bytes}")


def archive(directory: Path, name: str, weights_bytes: int) -> Archive:
    """The archive of that name and size, made unless it is there."""
    path = directory / f"{name}-{weights_bytes}.tar.gz"
    if not path.exists():
        print(f"making {path.name} (once) ...", file=sys.stderr, flush=True)
        directory.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".part")
        _pack(partial, weights_bytes)
        partial.rename(path)
    return Archive(path, weights_bytes)


@dataclass(frozen=True)
class Origin:
    address: str
    archives: dict[str, Archive]
    bucket: Path  # what is in it is served as a bucket of S3's that anybody may read, at `address`/store

    def handle(self, name: str) -> str:
        return f"{self.address}/bench/{name}/1"

    def throttled(self) -> Origin:
        """The same archives, each connection limited to `THROTTLED_BYTES_PER_SECOND`."""
        return replace(self, address=f"{self.address}/throttled")

    @contextlib.contextmanager
    def far(self, round_trip_seconds: float, of_a_connection: float, of_all: float) -> Iterator[Origin]:
        """The same archives from far away, at most so many bytes a second, until the block is left."""
        port = urlsplit(self.address).port
        command = [sys.executable, "-P", str(RELAY), *map(str, (port, round_trip_seconds, of_a_connection, of_all))]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as relay:
            try:
                assert relay.stdout is not None
                if not (line := relay.stdout.readline().strip()):
                    raise RuntimeError("the relay ended at once")
                yield replace(self, address=f"http://127.0.0.1:{line}")
            finally:
                relay.kill()


@contextlib.contextmanager
def nginx(directory: Path, archives: dict[str, Archive]) -> Iterator[Origin]:
    """Serve each archive at ``/bench/<name>/1``, whatever the query says, until the block is left.

    And all files of a directory as a bucket; and each archive at ``/throttled/bench/<name>/1``, at a limited rate.
    """
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/sbin")
    if program is None:
        raise RuntimeError("nginx is missing: apt-get install nginx-light")
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    configuration = directory / "nginx.conf"
    bucket = directory / "store"
    bucket.mkdir(exist_ok=True)
    locations = [f'location /store/ {{ alias "{bucket}/"; log_not_found off; }}']
    locations += [
        f'location = {place}/bench/{name}/1 {{ alias "{archive.path}"; {limit} }}'
        for name, archive in archives.items()
        for place, limit in (("", ""), ("/throttled", f"limit_rate {THROTTLED_BYTES_PER_SECOND};"))
    ]
    configuration.write_text(
        _CONFIGURATION.format(
            directory=directory,
            port=port,
            # As root nginx would switch to another user, who need not be able to read this directory.
            user="user root;" if os.geteuid() == 0 else "",
            locations="\n        ".join(locations),
        )
    )
    server = subprocess.Popen([program, "-e", "stderr", "-c", str(configuration)], stdin=subprocess.DEVNULL)
    try:
        _wait_for_port(port, server)
        for archive in archives.values():
            _read_through(archive.path)  # else the first contender alone would wait for the origin's disk
        yield Origin(f"http://127.0.0.1:{port}", archives, bucket)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(START_TIMEOUT_SECONDS)


class _Weights(io.RawIOBase):
    """Normally distributed float32 numbers: they compress as trained weights do, to about 0.93 of their size."""

    def __init__(self) -> None:
        self._random = numpy.random.default_rng(_SEED)
        self._rest = b""

    def read(self, size: int = -1, /) -> bytes:
        while len(self._rest) < size:
            self._rest += self._random.standard_normal(1 << 20, dtype=numpy.float32).tobytes()
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken


def _pack(path: Path, weights_bytes: int) -> None:
    with tarfile.open(path, "w:gz", compresslevel=1, format=tarfile.USTAR_FORMAT) as tar:
        # tensorflow_hub refuses archives whose directories have no entries of their own.
        tar.addfile(_directory("variables"))
        tar.addfile(_file("saved_model.pb", len(_SAVED_MODEL)), io.BytesIO(_SAVED_MODEL))
        tar.addfile(_file("variables/variables.index", 8), io.BytesIO(bytes(8)))
        tar.addfile(_file(_WEIGHTS, weights_bytes), _Weights())


def _directory(name: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
    return entry


def _file(name: str, size_bytes: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size = size_bytes
    return entry


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _read_through(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 20):
            pass


def _wait_for_port(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"nginx ended at once, with status {server.returncode}")
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.01)
    raise RuntimeError(f"nginx does not answer on port {port}")

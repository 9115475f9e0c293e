"""nginx with the servers of a document, as whoever copies them from there has it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.ports import reserved_port
from tests.support.waiting import wait_until

PROGRAM = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/sbin")
_STOP_SECONDS = 10
_BLOCK = re.compile(r"^```nginx\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CONFIGURATION = """
daemon off;
pid "{directory}/nginx.pid";
error_log "{directory}/nginx.log" warn;
worker_processes 1;
{user}
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path "{directory}/body";
    proxy_temp_path "{directory}/proxy";
    fastcgi_temp_path "{directory}/fastcgi";
    uwsgi_temp_path "{directory}/uwsgi";
    scgi_temp_path "{directory}/scgi";
    {server}
}}
"""


def servers(document: str) -> list[str]:
    """The configurations of servers in a Markdown document."""
    return _BLOCK.findall(document)


@contextmanager
def nginx(directory: Path, server: str, **places: str) -> Iterator[int]:
    """Run it until the block ends; the port on loopback where it listens instead of 443.

    `places`: what directives with one argument say here instead; one that the server does not have is an error.
    """
    with reserved_port() as port:
        for directive, value in ({"listen": f"127.0.0.1:{port} ssl"} | places).items():
            server, count = re.subn(rf"^(\s*{directive}) [^;]+;", rf"\1 {value};", server, flags=re.MULTILINE)
            assert count == 1, f"{count} directives {directive}"
        with _running(directory, server, "127.0.0.1", port):
            yield port


@contextmanager
def cache(directory: Path, example: Path, address: str = "127.0.0.1", **places: str) -> Iterator[int]:
    """The same with a whole example of a cache, and the port where it listens instead of 8080.

    `places`: what stands there instead of the example's own values, by what these are called below.
    """
    text, nobody = example.read_text(), "127.0.0.1:9"
    places = {"models": nobody, "store": nobody, "directory": str(directory / "cache")} | places
    with reserved_port() as port:
        places["listen"] = f"{address}:{port}"
        for place, value in places.items():
            assert _CACHE_PLACES[place] in text, place
            text = text.replace(_CACHE_PLACES[place], value)
        with _running(directory, text, address, port):
            yield port


_CACHE_PLACES = {
    "listen": "8080",
    "directory": "/var/cache/nginx/hubd",
    "models": "models.example.org:443",
    "store": "minio.lan:9000",
    "trusted": "/etc/ssl/certs/ca-certificates.crt",
    "fresh": "200 206 1m",
}


@contextmanager
def _running(directory: Path, servers: str, address: str, port: int) -> Iterator[None]:
    assert PROGRAM is not None
    directory.mkdir()
    configuration = directory / "nginx.conf"
    # As root nginx would switch to another user, who need not be able to read the test's directories.
    user = "user root;" if os.geteuid() == 0 else ""
    configuration.write_text(_CONFIGURATION.format(directory=directory, user=user, server=servers))
    process = subprocess.Popen([PROGRAM, "-e", "stderr", "-c", str(configuration)], stdin=subprocess.DEVNULL)

    def answers() -> bool:
        assert process.poll() is None, "nginx ended at once"
        with socket.socket() as probe:
            return probe.connect_ex((address, port)) == 0

    try:
        wait_until(answers)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(_STOP_SECONDS)

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
events {{ worker_connections 64; }}
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
    assert PROGRAM is not None
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    for directive, value in ({"listen": f"127.0.0.1:{port} ssl"} | places).items():
        server, count = re.subn(rf"^(\s*{directive}) [^;]+;", rf"\1 {value};", server, flags=re.MULTILINE)
        assert count == 1, f"{count} directives {directive}"
    directory.mkdir()
    configuration = directory / "nginx.conf"
    # As root nginx would switch to another user, who need not be able to read the test's directories.
    user = "user root;" if os.geteuid() == 0 else ""
    configuration.write_text(_CONFIGURATION.format(directory=directory, user=user, server=server))
    process = subprocess.Popen([PROGRAM, "-e", "stderr", "-c", str(configuration)], stdin=subprocess.DEVNULL)

    def answers() -> bool:
        assert process.poll() is None, "nginx ended at once"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        wait_until(answers)
        yield port
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(_STOP_SECONDS)

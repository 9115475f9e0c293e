"""A network of its own for a program, in namespaces that ``unshare`` has made: its names, its hosts, its web server.

``python little_network.py PLAN PROGRAM ARGUMENT...`` gives the loopback device the plan's addresses, whatever they are
elsewhere, serves its names as a DNS server, its archive on all addresses, and becomes the program. Nothing leaves it.
Standard library only, and no part of a package: it is run by its path.
"""

from __future__ import annotations

import ctypes
import ipaddress
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

_UNSHARE = ("unshare", "--user", "--map-root-user", "--net", "--mount")
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_A, _AAAA = 1, 28  # RFC 1035, RFC 3596
PORTS = (80, 81)


@dataclass(frozen=True)
class Plan:
    """`names`: for each, the addresses of its first answer, of its second, and so on; the last one stays.

    `log` gets a line for each connection: the address that it came to. ``/m/1`` is the archive, and ``/to/URL/1`` a
    redirect to the URL, percent-encoded.
    """

    archive: str
    log: str
    addresses: list[str] = field(default_factory=list)
    names: dict[str, list[list[str]]] = field(default_factory=dict)

    def wrapper(self, place: Path) -> list[str]:
        """What to put before a command so that it runs in this network."""
        written = place / "network.json"
        written.write_text(json.dumps(asdict(self)))
        return [*_UNSHARE, sys.executable, __file__, str(written)]


def redirect_to(url: str, host: str) -> str:
    """A handle at the host that redirects there."""
    return f"http://{host}/to/{quote(url, safe='')}/1"


def can_be_made() -> bool:
    """Whether this machine permits the namespaces."""
    command = [*_UNSHARE, "true"]
    return shutil.which("unshare") is not None and subprocess.run(command, capture_output=True).returncode == 0


class _Names:
    """A DNS server over UDP that answers questions for A and AAAA."""

    def __init__(self, names: dict[str, list[list[str]]]) -> None:
        self._left = {(name, kind): list(answers) for name, answers in names.items() for kind in (_A, _AAAA)}
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 53))

    def serve(self) -> None:
        while True:
            query, client = self._socket.recvfrom(4096)
            self._socket.sendto(self._answer(query), client)

    def _answer(self, query: bytes) -> bytes:
        labels, at = [], 12
        while length := query[at]:
            labels.append(query[at + 1 : at + 1 + length].decode().lower())
            at += 1 + length
        (kind,) = struct.unpack_from("!H", query, at + 1)
        question = query[12 : at + 5]
        left = self._left.get((".".join(labels), kind))
        now = [] if left is None else left.pop(0) if len(left) > 1 else left[0]
        found = [address.packed for address in map(ipaddress.ip_address, now) if (address.version == 4) == (kind == _A)]
        code = 3 if (".".join(labels), _A) not in self._left else 0
        head = query[:2] + struct.pack("!HHHHH", 0x8580 | code, 1, len(found), 0, 0)
        records = [struct.pack("!HHHIH", 0xC00C, kind, 1, 0, len(packed)) + packed for packed in found]
        return head + question + b"".join(records)


class _Web(ThreadingHTTPServer):
    daemon_threads = True
    address_family = socket.AF_INET6
    request_queue_size = 64
    plan: Plan
    archive: bytes

    def get_request(self) -> tuple[socket.socket, object]:
        connection, client = super().get_request()
        with open(self.plan.log, "a") as log:
            log.write(connection.getsockname()[0].removeprefix("::ffff:") + "\n")
        return connection, client


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Web

    def do_GET(self) -> None:
        segments = urlsplit(self.path).path.split("/")
        body = b"" if segments[1] == "to" else self.server.archive
        self.send_response(302 if segments[1] == "to" else 200)
        if segments[1] == "to":
            self.send_header("Location", unquote(segments[2]))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Silent."""


def _set_up(addresses: list[str], place: Path) -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for address in addresses:
        bits = ipaddress.ip_address(address).max_prefixlen
        subprocess.run(["ip", "address", "add", f"{address}/{bits}", "dev", "lo"], check=True)
    for name, text in (("resolv.conf", "nameserver 127.0.0.1\n"), ("nsswitch.conf", "hosts: files dns\n")):
        (place / name).write_text(text)
        subprocess.run(["mount", "--bind", str(place / name), f"/etc/{name}"], check=True)


def _serve(plan: Plan, ready: int) -> None:
    for port in PORTS:
        web = _Web(("::", port), _Handler)
        web.plan, web.archive = plan, Path(plan.archive).read_bytes()
        threading.Thread(target=web.serve_forever, daemon=True).start()
    names = _Names(plan.names)
    os.close(ready)
    names.serve()


def main() -> None:
    written, *program = sys.argv[1:]
    plan = Plan(**json.loads(Path(written).read_text()))
    _set_up(plan.addresses, Path(written).parent)
    waiting, ready = os.pipe()
    if os.fork() == 0:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        os.close(waiting)
        _serve(plan, ready)
    os.close(ready)
    os.read(waiting, 1)  # the other end is closed as soon as all is served
    os.close(waiting)
    os.execv(program[0], program)


if __name__ == "__main__":
    main()

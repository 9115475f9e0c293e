"""squid with an example of a cache, as whoever copies it from there has it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.ports import reserved_port
from tests.support.uids import ALICE, directory_of
from tests.support.waiting import wait_until

PROGRAM = shutil.which("squid") or shutil.which("squid", path="/usr/sbin")
_CERTGEN = Path("/usr/lib/squid/security_file_certgen")
HAS_TLS = PROGRAM is not None and _CERTGEN.exists()


@dataclass(frozen=True)
class Squid:
    """`ca`: by which what it says for a host is trusted. `log`: a line for each request."""

    url: str
    ca: Path
    log: Path


@contextmanager
def squid(example: Path, names: list[str], trusted: Path) -> Iterator[Squid]:
    """Run it until the block ends. `names` are at 127.0.0.1; `trusted`: certificates by which servers are believed."""
    own = directory_of(ALICE) if os.geteuid() == 0 else tempfile.TemporaryDirectory()
    with own as made, reserved_port() as port:
        directory = Path(made)
        ca, certificates = directory / "ca.pem", directory / "certificates"
        asked = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=Cache of models"]
        _run(*asked, "-keyout", str(directory / "ca.key"), "-out", str(ca))
        _run(str(_CERTGEN), "-c", "-s", str(certificates), "-M", "4MB")
        (directory / "hosts").write_text("".join(f"127.0.0.1 {name}\n" for name in names))
        (directory / "trusted.pem").write_bytes(trusted.read_bytes())
        (directory / "squid.conf").write_text(_configuration(directory, example, port))
        for path in directory.rglob("*"):
            os.chown(path, *([ALICE] * 2 if os.geteuid() == 0 else [-1, -1]))
        # A name of its own: by theirs, two on one machine would share memory.
        command = [str(PROGRAM), "-N", "-n", f"hubd{port}", "-f", str(directory / "squid.conf")]
        _run(*command, "-z")
        with (directory / "said").open("wb") as said:
            process = subprocess.Popen([*_become(), *command], stdin=subprocess.DEVNULL, stdout=said, stderr=said)

        def answers() -> bool:
            assert process.poll() is None, (directory / "cache.log").read_text()
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        try:
            wait_until(answers)
            yield Squid(f"http://127.0.0.1:{port}", ca, directory / "access.log")
        finally:
            process.kill()  # it would take its time; its helpers end with it
            process.wait()


def _configuration(directory: Path, example: Path, port: int) -> str:
    text = example.read_text()
    for there, here in {
        "http_port 3128": f"http_port 127.0.0.1:{port}",
        "/etc/squid/ca.pem": f"{directory}/ca.pem",
        "/etc/squid/ca.key": f"{directory}/ca.key",
        "/var/spool/squid/certificates": f"{directory}/certificates",
        "/var/spool/squid/models 200000 16 256": f"{directory}/cache 2000 1 16",
        "/etc/squid/squid-store-ids": f"{directory}/squid-store-ids",
        "acl machines src 10.0.0.0/8": "acl machines src 127.0.0.1",
    }.items():
        assert there in text, there
        text = text.replace(there, here)
    (directory / "squid-store-ids").write_bytes(example.with_name("squid-store-ids").read_bytes())
    return text + (
        f"\nhosts_file {directory}/hosts\ntls_outgoing_options cafile={directory}/trusted.pem\n"
        f"pid_filename {directory}/squid.pid\ncoredump_dir {directory}\npinger_enable off\n"
        f"access_log stdio:{directory}/access.log\ncache_log {directory}/cache.log\nshutdown_lifetime 0 seconds\n"
    )


def _become() -> list[str]:
    """It refuses to be root."""
    become = ["setpriv", f"--reuid={ALICE}", f"--regid={ALICE}", "--clear-groups"]
    return become if os.geteuid() == 0 else []


def _run(*command: str) -> None:
    done = subprocess.run([*_become(), *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr

"""Real object stores for tests: moto's server speaks S3, and Azurite speaks Azure's protocol and checks signatures.

Law: a store is a process of its own on a free port, ended by its process id; what it was asked, its own log tells.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlencode

import pytest

from tests.support.ports import reserved_port
from tests.support.process import Process

_ROOT = Path(__file__).resolve().parents[2]
_AZURITE = _ROOT / ".azurite/node_modules/.bin/azurite-blob"
_START_SECONDS = 60.0
_ASKED = re.compile(r'"(?:\x1b\[\d+m)*([A-Z]+) (\S+) HTTP/1\.1(?:\x1b\[0m)?" (\d{3})')  # moto's lines have colours

#: What every Azurite has: https://learn.microsoft.com/azure/storage/common/storage-use-azurite
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
AWS_KEYS = "[default]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = kN7-tell_nobody\n"


class Asked(NamedTuple):
    """A request, by the log of the store."""

    method: str
    target: str
    status: int


class _Server(Process):
    """A process that answers on a port of its own."""

    def __init__(self, directory: Path) -> None:
        self.log = directory / f"{type(self).__name__}.log"
        self._holding = ExitStack()
        self.port = self._holding.enter_context(reserved_port())

    def command(self) -> Sequence[str]:
        raise NotImplementedError

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.log.parent
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, f"no answer: {self.log.read_text()}"
            time.sleep(0.05)

    def close(self) -> None:
        self._holding.close()
        super().close()

    def asked(self, path: str = "") -> list[Asked]:
        """The requests so far whose target begins with a path."""
        found = [Asked(match[1], match[2], int(match[3])) for match in _ASKED.finditer(self.log.read_text())]
        return [asked for asked in found if asked.target.startswith(path)]

    def request(self, method: str, target: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, target, body, dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


class S3Server(_Server):
    """moto's server. It tells whom an object is open to, and takes any signature for whose it says it is."""

    _SIGNED = (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
    )

    def command(self) -> Sequence[str]:
        program = Path(__file__).with_name("atomic_moto.py")
        return [sys.executable, "-P", str(program), str(self.port)]

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def settings(self, match: str = "s3://") -> str:
        """The lines of a configuration that lead there."""
        return f'[[object_store]]\nmatch = "{match}"\nendpoint = "{self.endpoint}"\n'

    def make(self, bucket: str, *, versioned: bool = False) -> None:
        """`versioned`: what is replaced or removed there is kept, behind a marker."""
        self._put(f"/{bucket}", b"", {})
        if versioned:
            body = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
            self._put(f"/{bucket}?versioning", body, {})

    def put(self, bucket: str, path: str, data: bytes, *, public: bool = False) -> None:
        """`public`: anybody may read it."""
        self._put(f"/{bucket}/{quote(path)}", data, {"x-amz-acl": "public-read"} if public else {})

    def get(self, bucket: str, path: str) -> bytes | None:
        """None: it is not there."""
        status, body = self.request("GET", f"/{bucket}/{quote(path)}", b"", {"Authorization": self._SIGNED})
        assert status in (200, 404), body
        return body if status == 200 else None

    def _put(self, target: str, data: bytes, headers: Mapping[str, str]) -> None:
        status, body = self.request("PUT", target, data, {**headers, "Authorization": self._SIGNED})
        assert status == 200, body


class AzureServer(_Server):
    """Azurite's blobs, in memory."""

    def command(self) -> Sequence[str]:
        port = str(self.port)
        return [
            str(_AZURITE),
            "--inMemoryPersistence",
            "--disableTelemetry",
            "--blobHost",
            "127.0.0.1",
            "--blobPort",
            port,
        ]

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}/{AZURE_ACCOUNT}"

    def settings(self, match: str = "az://") -> str:
        """The lines of a configuration that lead there."""
        return f'[[object_store]]\nmatch = "{match}"\nendpoint = "{self.endpoint}"\naccount = "{AZURE_ACCOUNT}"\n'

    def make(self, container: str, *, public: bool = False) -> None:
        """`public`: anybody may read what is in it."""
        headers = {"x-ms-blob-public-access": "container"} if public else {}
        self._put(f"/{container}", "restype=container", b"", headers)

    def put(self, container: str, path: str, data: bytes) -> None:
        self._put(f"/{container}/{quote(path)}", "", data, {"x-ms-blob-type": "BlockBlob"})

    def _put(self, path: str, query: str, data: bytes, headers: Mapping[str, str]) -> None:
        """Signed with the shared key: https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key"""
        now = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")
        stated = {**headers, "x-ms-date": now, "x-ms-version": "2021-12-02"}
        lines = "".join(f"{name}:{stated[name]}\n" for name in sorted(stated))
        resource = f"/{AZURE_ACCOUNT}/{AZURE_ACCOUNT}{path}" + (f"\n{query.replace('=', ':')}" if query else "")
        text = f"PUT\n\n\n{len(data) or ''}\n\n\n\n\n\n\n\n\n{lines}{resource}"
        signature = base64.b64encode(hmac.digest(base64.b64decode(AZURE_KEY), text.encode(), hashlib.sha256)).decode()
        stated["Authorization"] = f"SharedKey {AZURE_ACCOUNT}:{signature}"
        target = f"/{AZURE_ACCOUNT}{path}" + (f"?{query}" if query else "")
        status, body = self.request("PUT", target, data, stated)
        assert status == 201, body


def azure_sas(seconds: float = 3600.0) -> str:
    """An account's shared access signature, to read and list blobs:
    https://learn.microsoft.com/rest/api/storageservices/create-account-sas
    """
    expires = (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
    stated = {"sp": "rl", "ss": "b", "srt": "sco", "se": expires, "sv": "2021-12-02"}
    lines = (AZURE_ACCOUNT, stated["sp"], stated["ss"], stated["srt"], "", expires, "", "", stated["sv"], "", "")
    signature = hmac.digest(base64.b64decode(AZURE_KEY), "\n".join(lines).encode(), hashlib.sha256)
    return urlencode({**stated, "sig": base64.b64encode(signature).decode()})


def require_azurite() -> None:
    """Skips the test where Azurite is not installed, which `make test` does."""
    if not _AZURITE.exists():
        assert os.environ.get("CI") != "true", "Azurite is missing: make azurite"
        pytest.skip("needs Azurite: make azurite")


def secret(directory: Path, store: str, kind: str, text: str) -> str:
    """The lines of a configuration with a credential, whose file is made here."""
    file = directory / f"{kind}-{hashlib.sha256(store.encode()).hexdigest()[:8]}"
    file.write_text(text)
    file.chmod(0o600)
    return f'[[credential]]\nstore = "{store}"\ntype = "{kind}"\nfile = "{file}"\n'

"""Certificates of a test's own authority."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path

import trustme


class Authority:
    """A CA that nobody knows yet. `bundle` is the file to trust it by."""

    def __init__(self, directory: Path) -> None:
        self._ca = trustme.CA()
        self.bundle = directory / "ca.pem"
        self._ca.cert_pem.write_to_path(self.bundle)

    def server(self, *names: str, expired: bool = False) -> ssl.SSLContext:
        """What a server of these names speaks TLS with."""
        not_after = datetime(2020, 1, 1, tzinfo=UTC) if expired else None
        not_before = datetime(2019, 1, 1, tzinfo=UTC) if expired else None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(*names, not_before=not_before, not_after=not_after).configure_cert(context)
        return context

    def files(self, directory: Path, *names: str) -> tuple[Path, Path]:
        """The same as files: the certificate with its chain, and the key."""
        issued = self._ca.issue_cert(*names)
        certificate, key = directory / "server.pem", directory / "server.key"
        certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        key.touch(mode=0o600)
        issued.private_key_pem.write_to_path(key)
        return certificate, key

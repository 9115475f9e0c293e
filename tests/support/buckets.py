"""A bucket on a real store, as a test looks into it: the same for every kind of store.

Law: it goes by no daemon and by no front, so what it tells is what the store has.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
from obstore.store import AzureStore, S3Store

from tests.support.object_stores import AWS_KEYS, AZURE_ACCOUNT, AZURE_KEY, AzureServer, S3Server, secret

_SECONDS = timedelta(seconds=20)


class Bucket:
    """Made here, and empty."""

    def __init__(self, server: S3Server | AzureServer, name: str) -> None:
        server.make(name)
        self.port = server.port
        self._server = server
        options: Any = {"client_options": {"allow_http": True, "timeout": _SECONDS}, "endpoint": server.endpoint}
        self._store: S3Store | AzureStore
        if isinstance(server, S3Server):
            self.handle = f"s3://{name}"
            self._store = S3Store(
                name, access_key_id="AKIDEXAMPLE", secret_access_key="none", region="us-east-1", **options
            )
        else:
            self.handle = f"az://{name}"
            self._store = AzureStore(name, account_name=AZURE_ACCOUNT, account_key=AZURE_KEY, **options)

    def settings(self, directory: Path, port: int) -> str:
        """The lines of a configuration that lead to it by another port, with the right to write; the secret lies in
        the directory.
        """
        kind, text = ("aws-keys", AWS_KEYS) if isinstance(self._server, S3Server) else ("azure-key", AZURE_KEY)
        lines = self._server.settings(self.handle).replace(f":{self.port}", f":{port}")
        return lines + secret(directory, self.handle, kind, text)

    def paths(self, prefix: str) -> list[str]:
        return sorted(found["path"] for batch in obstore.list(self._store, prefix) for found in batch)

    def read(self, path: str) -> bytes | None:
        try:
            return bytes(obstore.get(self._store, path).bytes())
        except FileNotFoundError:
            return None

    def write(self, path: str, data: bytes) -> None:
        obstore.put(self._store, path, data)

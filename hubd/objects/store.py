"""One bucket, as it is reached with one credential.

Law: before obstore connects, the network's rules are asked about the endpoint; what goes wrong becomes a `HubError`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, Protocol
from urllib.parse import quote, unquote

from yarl import URL

from hubclient.contract.credentials import may_travel
from hubclient.contract.errors import HandleForbidden, HubError
from hubd.config import NetworkSettings
from hubd.objects import backend, shared_access
from hubd.objects.backend import Connecting
from hubd.objects.endpoints import Place
from hubd.objects.failures import Subject
from hubd.objects.keys import AzureKey, AzureSas, GoogleKey, Keys
from hubd.objects.standard_places import StandardPlaces
from hubd.objects.urls import ObjectInfo, Version
from hubd.secret_files import SecretFile

if TYPE_CHECKING:
    from obstore import UpdateVersion

    from hubd.objects.backend import Client

_SIGNED_FOR = timedelta(hours=1)
_PART_BYTES = 8 << 20
_PARTS_AT_ONCE = 2  # of each upload: a store that takes no more for its stall timeout is given up
_LISTED_AT_ONCE = 1000


class Network(Protocol):
    """What the network's rules say to one that connects by itself."""

    async def require_reachable(self, url: URL, *, is_named: bool) -> None:
        """Raises what a request to this URL would be refused with, by its name or by an address that it has."""

    def proxy_url(self, host: str) -> str | None:
        """The proxy for this host, with its credentials."""

    def verifies(self, host: str) -> bool:
        """Whether its certificate is verified."""


@dataclass(frozen=True)
class _Made:
    keys: Keys | None
    client: Client


class ObjectStore:
    """One bucket, as it is reached with one credential. Its methods raise `HubError`s.

    Paths are within the bucket. What must not be contacted is refused with `HandleForbidden` or `AddressForbidden`.
    """

    def __init__(
        self,
        place: Place,
        network: Network,
        terms: NetworkSettings,
        credential: str | None = None,
        file: SecretFile[Keys] | None = None,
        standard: StandardPlaces | None = None,
    ) -> None:
        self.place = place
        self.endpoint = URL(place.base, encoded=True)
        self._network = network
        self._terms = terms
        self._credential = credential
        self._file = file
        self._standard = standard
        self._shown: Keys | None = None
        self._made: _Made | None = None

    @property
    def is_named(self) -> bool:
        """Whether the settings name the endpoint, and so allow it."""
        return self.place.is_named

    @property
    def subject(self) -> Subject:
        """What errors speak of."""
        credential = self._credential
        if credential is None and self._shown is not None:
            credential = f"{self.place.scheme}:// of the user whose daemon this is"
        return Subject(self.place.root, credential)

    async def url(self, path: str, method: Literal["GET", "DELETE"] = "GET") -> URL:
        """Of an object, for this method and for an hour, for whoever has this URL: it is to be told to nobody."""
        keys, plain = self._keys(), self.place.object_url(path)
        if keys is None:
            return URL(plain, encoded=True)
        if isinstance(keys, AzureSas):
            return URL(f"{plain}?{keys.query}", encoded=True)
        if isinstance(keys, AzureKey):
            blob = f"{self.place.account}/{self.place.bucket}/{path}"
            query = shared_access.query(keys.key, blob, method, datetime.now(UTC) + _SIGNED_FOR)
            return URL(f"{plain}?{query}", encoded=True)
        client = await self._client()
        import obstore

        # For Google's it takes the path as a part of a URL: what is literally %2e%2e would lead to what lies above.
        named = quote(path, safe="/~") if self.place.scheme == "gs" else path
        try:
            signed = URL(await obstore.sign_async(client, method, named, _SIGNED_FOR), encoded=True)
        except Exception as error:  # of a library that does not say which it raises
            raise self.subject.named(error) from None
        if unquote(signed.raw_path) != unquote(URL(plain, encoded=True).raw_path):
            raise HandleForbidden(f"{self.place.root} cannot be asked for this path: it would be taken for another one")
        return signed

    async def listing(self, prefix: str) -> AsyncIterator[ObjectInfo]:
        """What is below the prefix, which ends with a whole segment; empty: all."""
        import obstore

        async with self._asking() as client:
            stream = obstore.list(client, prefix or None, chunk_size=_LISTED_AT_ONCE).__aiter__()
        while True:
            try:
                async with asyncio.timeout(self._patience_seconds):
                    batch = await anext(stream, None)
            except Exception as error:
                raise self.subject.named(error) from None
            if batch is None:
                return
            for meta in batch:
                yield ObjectInfo(meta["path"], meta["size"], meta["e_tag"], meta["last_modified"])

    async def create(self, path: str, data: bytes) -> Version | None:
        """None: there is something already, and it stays."""
        import obstore

        async with self._asking() as client:
            try:
                return _version(await obstore.put_async(client, path, data, mode="create", use_multipart=False))
            except obstore.exceptions.AlreadyExistsError:
                return None
            except FileNotFoundError:
                raise self.subject.no_bucket() from None

    async def replace(self, path: str, data: bytes, version: Version) -> Version | None:
        """None: it is of another version meanwhile, or gone."""
        import obstore

        mode: UpdateVersion = {}
        if version.etag is not None:
            mode["e_tag"] = version.etag
        if version.version is not None:
            mode["version"] = version.version
        async with self._asking() as client:
            try:
                return _version(await obstore.put_async(client, path, data, mode=mode, use_multipart=False))
            except (obstore.exceptions.AlreadyExistsError, obstore.exceptions.PreconditionError):
                return None

    async def upload(self, path: str, chunks: AsyncIterator[bytes]) -> None:
        """In parts. What is there of this name is replaced, in one step at the end."""
        import obstore

        async with self._asking(is_long=True) as client:
            try:
                await obstore.put_async(
                    client, path, chunks, use_multipart=True, chunk_size=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE
                )
            except FileNotFoundError:
                raise self.subject.no_bucket() from None

    @asynccontextmanager
    async def _asking(self, *, is_long: bool = False) -> AsyncIterator[Client]:
        """obstore's client for the block, in which what it raises gets its name; for a while, unless it `is_long`."""
        client = await self._client()
        try:
            async with asyncio.timeout(None if is_long else self._patience_seconds):
                await self._network.require_reachable(self.endpoint, is_named=self.is_named)
                yield client
        except Exception as error:  # of a library that does not say which it raises
            raise self.subject.named(error) from None

    @property
    def _patience_seconds(self) -> float:
        return self._terms.connect_timeout + self._terms.stall_timeout

    def _keys(self) -> Keys | None:
        """What is shown now."""
        keys = self._file.now() if self._file is not None else None
        if self._file is None and self._standard is not None:
            keys = self._standard.keys(self.place.scheme, self.place.account)
        if isinstance(keys, GoogleKey | AzureSas) and not may_travel(self.endpoint.scheme, self.place.host):
            raise HandleForbidden(
                f"a credential for {self.place.root} is not sent over http://, but to this machine itself: its "
                "endpoint must be https://"
            )
        self._shown = keys
        return keys

    async def _client(self) -> Client:
        keys = self._keys()
        if self._made is None or self._made.keys != keys:
            # In a thread: what is loaded for the first time takes a while.
            self._made = _Made(keys, await asyncio.to_thread(self._new, keys))
        return self._made.client

    def _new(self, keys: Keys | None) -> Client:
        certificates = None
        try:
            if self._terms.ca_bundle is not None:
                with open(self._terms.ca_bundle, "rb") as opened:
                    certificates = opened.read()
            connecting = Connecting(
                self._terms.connect_timeout,
                self._network.verifies(self.place.host),
                certificates,
                self._network.proxy_url(self.place.host),
            )
            return backend.client(self.place, keys, connecting)
        except HubError:
            raise
        except Exception as error:  # a key that obstore cannot use, say; what it says may repeat the key
            raise HandleForbidden(
                f"{self.place.root} cannot be asked with what the settings say of it ({type(error).__name__})"
            ) from None


def _version(answer: object) -> Version:
    assert isinstance(answer, dict)
    return Version(answer.get("e_tag"), answer.get("version"))

"""The origin's side of a fetch: the tf-hub protocol over HTTP.

A handle's URL with ``tf-hub-format=compressed`` answers the module as a tar.gz, directly or by redirect
(https://www.tensorflow.org/hub/hosting). Law: each hop passes the guard, and https never leads to http.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from yarl import URL

from hubclient.contract import handles
from hubclient.contract.errors import (
    HandleForbidden,
    HandleInvalid,
    HubError,
    UpstreamDenied,
    UpstreamNotFound,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from hubd import __version__
from hubd.config import NetworkSettings
from hubd.fetching.guard import Guard

_MAX_REDIRECTS = 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_READ_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True)
class Validators:
    """What an earlier answer said of its version, for a conditional request (RFC 9110, section 13)."""

    etag: str | None = None
    last_modified: str | None = None

    def headers(self) -> dict[str, str]:
        stated = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
        return {name: value for name, value in stated.items() if value is not None}


@dataclass(frozen=True)
class Delivery:
    """An answer with an archive in its body; or, when `body` is None, the word that nothing changed (304)."""

    body: AsyncIterator[bytes] | None
    total_bytes: int | None
    validators: Validators
    final_host: str


class HttpSource:
    """Origins over HTTP. An async context manager that owns the connections."""

    def __init__(self, settings: NetworkSettings) -> None:
        self._settings = settings
        self._guard = Guard(settings)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> HttpSource:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(socket_factory=self._guard.socket, limit=0, enable_cleanup_closed=False),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(
                total=None,
                connect=None,
                sock_connect=self._settings.connect_timeout,
                sock_read=self._settings.stall_timeout,
            ),
            auto_decompress=False,  # the digest is of the bytes as sent, and the child inflates
            trust_env=False,
            read_bufsize=_READ_BUFFER_BYTES,
            headers={"User-Agent": f"hubd/{__version__}", "Accept-Encoding": "identity"},
        )
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def open(self, handle: str, known: Validators | None = None) -> AsyncIterator[Delivery]:
        """Asks for the archive of a canonical handle; with `known` validators a 304 is an answer too.

        Raises upstream-*, handle-forbidden and address-forbidden errors, also out of the block while the body is read.
        """
        async with self._following(handle, known.headers() if known else {}) as response:
            headers = response.headers
            validators = Validators(headers.get("ETag"), headers.get("Last-Modified"))
            host = response.url.host or ""
            if response.status == 304 and known is not None:
                merged = Validators(validators.etag or known.etag, validators.last_modified or known.last_modified)
                yield Delivery(None, None, merged, host)
            elif response.status == 304:
                raise UpstreamUnavailable(f"{host} answered 304 to a request without conditions")
            else:
                yield Delivery(_chunks(response, host), response.content_length, validators, host)

    @asynccontextmanager
    async def _following(self, handle: str, headers: dict[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        assert self._session is not None
        url = URL(handles.request_url(handle), encoded=True)
        for _ in range(_MAX_REDIRECTS + 1):
            self._guard.check_url(url)
            host = url.host or ""
            self._guard.begin(host)
            try:
                response = await self._session.get(url, headers=headers, allow_redirects=False)
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
                self._guard.check_refused()
                raise _named(error, host) from error
            async with response:
                if response.status in _REDIRECTS:
                    url = _target(url, response.headers.get("Location"))
                    continue
                if (failure := _refusal(response.status, host)) is not None:
                    raise failure
                yield response
                return
        raise UpstreamUnavailable(f"{handles.host(handle)}: more than {_MAX_REDIRECTS} redirects")


async def _chunks(response: aiohttp.ClientResponse, host: str) -> AsyncIterator[bytes]:
    try:
        while chunk := await response.content.readany():
            yield chunk
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise _named(error, host) from error


def _target(here: URL, location: str | None) -> URL:
    if not location:
        raise UpstreamUnavailable(f"{here.host}: a redirect without a Location")
    try:
        # Not encoded again: a signed URL must arrive as it was signed.
        target = here.join(URL(location, encoded=True)).with_fragment(None)
    except ValueError:
        raise UpstreamUnavailable(f"{here.host}: a redirect to what is no URL") from None
    if here.scheme == "https" and target.scheme == "http":
        raise HandleForbidden(f"{here.host} redirects from https to http://{target.host}")
    if target.user is not None or target.password is not None:
        raise HandleForbidden(f"{here.host} redirects to a URL with user info")
    return target


def _refusal(status: int, host: str) -> HubError | None:
    """The error that an answer's status means; None for an answer that can be used."""
    if status in (200, 304):
        return None
    if status in (404, 410):
        return UpstreamNotFound(f"{host} has no such module (HTTP {status})")
    if status in (401, 403):
        return UpstreamDenied(f"{host} denies access to this module (HTTP {status})")
    return UpstreamUnavailable(f"{host} answered HTTP {status}")


def _named(error: Exception, host: str) -> HubError:
    """The one place where errors of the HTTP library become ours. Nothing that the origin wrote is repeated."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return UpstreamTimeout(f"{host} could not be connected to in time")
    if isinstance(error, TimeoutError | asyncio.TimeoutError):
        return UpstreamTimeout(f"{host} stopped sending")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return UpstreamUnavailable(f"{host} cannot be resolved")
    if isinstance(error, aiohttp.ClientSSLError):
        return UpstreamUnavailable(f"{host}: TLS failed ({type(error).__name__})")
    if isinstance(error, aiohttp.ClientConnectorError):
        return UpstreamUnavailable(f"{host} cannot be connected to ({error.os_error.strerror or 'no reason given'})")
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError | ConnectionError):
        return UpstreamUnavailable(f"{host} cut the transfer")
    if isinstance(error, aiohttp.InvalidURL | ValueError):
        return HandleInvalid(f"the URL cannot be asked for at {host}")
    return UpstreamUnavailable(f"{host} gave no usable answer ({type(error).__name__})")

"""HTTP to origins: one session for all, in which each hop passes the guard.

Law: https never leads to http, nothing is sent to a host that the guard does not allow, and whatever an origin does
becomes a `HubError` that repeats nothing of what it wrote but the name of a host.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from ipaddress import IPv6Address, ip_address
from urllib.parse import quote

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
from hubd.config import HostSettings, NetworkSettings
from hubd.failures import BUSY, REDIRECTS, Busy, Hopeless, Refused, Unacceptable
from hubd.network.connections import Claim, Connections
from hubd.network.credentials import MachineCredentials, OwnCredential, credential_for
from hubd.network.guard import Guard
from hubd.network.names import Names
from hubd.network.pace import read_buffer_bytes
from hubd.network.patience import retry_after_seconds
from hubd.network.routes import PROXY_AUTHENTICATION_REQUIRED, Routes, refused_by_proxy
from hubd.network.tls import Trust, untrusted

_MAX_REDIRECTS = 10
_PASSING = BUSY | {408, 425, 500, 502, 504}
_UNACCEPTABLE = frozenset({406, 415})
_ASKING_AT_ONCE = 64  # for news of what is cached, beside the fetches
_MAX_TARGET_LENGTH = 8192
_MAX_HOST_LENGTH = 253
_PIECE_BYTES = 256 << 10  # larger ones are made anew of what came, and are kept by the allocator
_PRINTABLE_ASCII = "".join(map(chr, range(0x21, 0x7F)))
_HOST_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._")


class Session:
    """Origins over HTTP. An async context manager that owns the connections."""

    def __init__(
        self,
        settings: NetworkSettings,
        hosts: Iterable[HostSettings] = (),
        machine: MachineCredentials | None = None,
    ) -> None:
        """Raises `ConfigError` for a file of certificates or credentials that cannot be used."""
        self._settings = settings
        self._machine = machine
        self._routes = Routes(settings)
        self._trust = Trust(settings.ca_bundle, [host.name for host in hosts if not host.verify])
        self._guard = Guard(settings)
        most = settings.concurrent_fetches * settings.connections_per_fetch + _ASKING_AT_ONCE
        self.connections = Connections(settings.connections_per_host, most)
        # Apart, or a connection to a host that only the configuration may lead to would be there for everybody.
        self._session: aiohttp.ClientSession | None = None
        self._named_hosts: aiohttp.ClientSession | None = None
        self._names: Names | None = None

    async def __aenter__(self) -> Session:
        self._names = Names()
        self._session, self._named_hosts = self._new(self._names), self._new(self._names)
        return self

    def _new(self, names: Names) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=names, socket_factory=self._guard.socket, limit=0, enable_cleanup_closed=False
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(
                total=None,
                connect=self._settings.connect_timeout,  # resolving included; limit=0, so nobody waits for the pool
                sock_read=self._settings.stall_timeout,
            ),
            auto_decompress=False,  # the digest is of the bytes as sent, and the child inflates
            trust_env=False,
            read_bufsize=read_buffer_bytes(self._settings.max_rate, self._settings.prefetch_max_rate),
            headers={"User-Agent": f"hubd/{__version__}", "Accept-Encoding": "identity"},
        )

    async def __aexit__(self, *exception: object) -> None:
        for session in (self._session, self._named_hosts):
            if session is not None:
                await session.close()
        if self._names is not None:
            await self._names.close()

    @asynccontextmanager
    async def following(
        self,
        url: URL,
        headers: dict[str, str],
        claim: Claim | None = None,
        own: OwnCredential | None = None,
        *,
        named: URL | None = None,
        is_signed: bool = False,
        method: str = "GET",
        to_store: bool = False,
        on_shown: Callable[[str], None] = lambda host: None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """GET, redirects followed: an answer with status 200, 304, or to a request with Range 206, 412 or 416.

        The claim's place goes with it from host to host; without one the caller has a place for it. `own` is the
        caller's credential, sent along as `credential_for` says, as are the machine's.
        `named`: the configuration names this URL, so its scheme, host and port may be asked, whatever the guard says
        of them; but where a redirect leads away from them, it decides.
        `is_signed`: the URL itself says who asks, or that anybody does. No credential goes along, no redirect is
        followed, and every answer is the caller's, whatever its status. Only so another `method` may be asked for.
        `to_store`: a redirect to what an object store has (``gs://...``) is an answer too, for the caller to judge.
        `on_shown` is told each host that the machine's credential was shown to.
        Raises upstream-*, handle-* and address-forbidden errors.
        """
        asked_host = url.raw_host
        redirected_by: str | None = None
        way: list[URL] = []
        for _ in range(_MAX_REDIRECTS + 1):
            host = url.raw_host or ""
            is_named = named is not None and _origin(url) == _origin(named)
            if not is_named:
                self._guard.check_url(url)
            if claim is not None:
                await claim.move(host)
            way.append(url)
            credential = None if is_signed else credential_for(way, own, self._machine)
            if credential is not None and own is not None and credential is own.credential:
                self._require_verified(url)
            is_machines = credential is not None and (own is None or credential is not own.credential)
            if is_machines:
                on_shown(host)
            shown = {"Authorization": credential.header()} if credential is not None else {}
            try:
                response = await self._ask(method, url, {**headers, **shown}, is_named)
            except Exception as error:  # of the HTTP library, which raises nearly anything at a hostile answer
                self._guard.check_refused()  # by now, or when a socket was made
                if not isinstance(error, aiohttp.InvalidURL | UnicodeError):
                    raise _named(error, host) from error
                if redirected_by is not None:
                    raise _no_url(redirected_by) from error
                raise HandleInvalid(f"the URL cannot be asked for at {host}") from error
            async with response:
                if is_signed:
                    yield response
                    return
                if response.status in REDIRECTS:
                    if to_store and handles.is_object(response.headers.get("Location", "")):
                        yield response
                        return
                    url, redirected_by = _target(url, response.headers.get("Location")), host
                    continue
                if (failure := refusal(response, host, "Range" in headers, is_machines)) is not None:
                    raise failure
                yield response
                return
        raise Hopeless(f"{asked_host}: more than {_MAX_REDIRECTS} redirects")

    async def require_reachable(self, url: URL, *, is_named: bool) -> None:
        """For one that connects by itself: raises what a request to this URL would be refused with, by its name or by
        an address that the name has now. `is_named`: the configuration names the URL.
        """
        host = (url.raw_host or "").lower()
        if not is_named:
            self._guard.check_url(url)
        if (proxy := self._routes.proxy(host)) is not None:
            self._guard.check_literal(url, is_named=is_named)
            url, host, is_named = proxy.url, proxy.host, True
        assert self._names is not None
        try:
            found = await self._names.resolve(host, url.port or 0, socket.AF_UNSPEC)
        except OSError:
            raise UpstreamUnavailable(f"{host} cannot be resolved") from None
        addresses = [ip_address(address["host"].partition("%")[0]) for address in found]
        self._guard.check_addresses(host, addresses, is_named=is_named)

    def proxy_url(self, host: str) -> str | None:
        """The proxy for a host (lower case, ASCII), with its credentials, for one that connects by itself."""
        proxy = self._routes.proxy(host)
        return proxy.full_url() if proxy is not None else None

    def verifies(self, host: str) -> bool:
        """See `Trust.verifies`."""
        return self._trust.verifies(host)

    def _require_verified(self, url: URL) -> None:
        """Raises `HandleForbidden` where whoever listens in between could read a user's credential."""
        host = (url.raw_host or "").lower()
        if url.scheme == "https" and not self._trust.verifies(host):
            raise HandleForbidden(
                f"a user's credential is not sent to {host}, whose certificate is not verified (verify = false): "
                "network.ca_bundle can name a file with its issuer's certificate instead"
            )

    async def _ask(self, method: str, url: URL, headers: dict[str, str], is_named: bool) -> aiohttp.ClientResponse:
        session = self._named_hosts if is_named else self._session
        assert session is not None
        host = (url.raw_host or "").lower()
        proxy = self._routes.proxy(host)
        if proxy is None:
            self._guard.begin(host, is_named=is_named)
        else:
            self._guard.check_literal(url, is_named=is_named)
            self._guard.begin(proxy.host, is_named=True)
            if url.scheme == "http":  # no tunnel: the proxy reads the request itself
                headers = {**headers, **proxy.headers}
        # A proxy's too; with one that is asked by TLS, no host is without verification.
        is_tls = url.scheme == "https" or (proxy is not None and proxy.url.scheme == "https")
        # The read timeout starts again with every byte: only this one ends a head that never ends.
        async with asyncio.timeout(self._settings.connect_timeout + self._settings.stall_timeout):
            return await session.request(
                method,
                url,
                headers=headers,
                allow_redirects=False,
                ssl=self._trust.context(host) if is_tls else True,
                proxy=proxy.url if proxy is not None else None,
                proxy_headers=proxy.headers if proxy is not None else None,
            )


def _origin(url: URL) -> tuple[str, str, int | None]:
    return url.scheme, (url.raw_host or "").lower(), url.port


async def chunks(response: aiohttp.ClientResponse, host: str) -> AsyncIterator[bytes]:
    """The body as it comes. Raises upstream-* errors, after all that had arrived."""
    while True:
        try:
            chunk = await response.content.read(_PIECE_BYTES)
        except Exception as error:  # as above
            if rest := _unread(response.content):
                yield rest
            raise _named(error, host) from error
        if not chunk:
            return
        yield chunk


def _unread(content: aiohttp.StreamReader) -> bytes:
    """What had arrived before a cut and was not read yet: the library keeps it, but tells of the cut first."""
    cut = content.exception()
    if cut is None:
        return b""
    content.set_exception(None)  # type: ignore[arg-type]
    try:
        return content.read_nowait()
    finally:
        content.set_exception(cut)


def _target(here: URL, location: str | None) -> URL:
    """Where a redirect leads. ASCII stays as it is, since a signed URL must arrive as it was signed."""
    origin = here.raw_host or ""
    if not location:
        raise Hopeless(f"{origin}: a redirect without a Location")
    try:
        ascii_location = quote(location.encode("utf-8", "surrogateescape"), safe=_PRINTABLE_ASCII)
        there = URL(ascii_location, encoded=True)
        if not there.raw_host and (there.scheme in ("http", "https") or ascii_location.startswith("//")):
            raise ValueError("an empty host")
        target = here.join(there).with_fragment(None)
        # Each of these is only parsed when it is asked for.
        host, _, user, password = target.raw_host or "", target.port, target.raw_user, target.raw_password
    except ValueError:
        raise _no_url(origin) from None
    if target.scheme not in ("http", "https"):
        raise HandleForbidden(f"{origin} redirects to neither https nor http")
    if not _is_host(host) or len(str(target)) > _MAX_TARGET_LENGTH:
        raise _no_url(origin)
    if here.scheme == "https" and target.scheme == "http":
        raise HandleForbidden(f"{origin} redirects from https to http://{host}")
    if user is not None or password is not None:
        raise HandleForbidden(f"{origin} redirects to a URL with user info")
    return target


def _is_host(host: str) -> bool:
    """Whether it can be a host's name in ASCII, or an IP address."""
    if ":" in host:
        try:
            return IPv6Address(host).scope_id is None
        except ValueError:
            return False
    return 0 < len(host) <= _MAX_HOST_LENGTH and _HOST_CHARACTERS.issuperset(host)


def _no_url(host: str) -> HubError:
    return Hopeless(f"{host}: a redirect to what is no URL")


def refusal(response: aiohttp.ClientResponse, host: str, ranged: bool, is_machines: bool = False) -> HubError | None:
    """The error that an answer's status means; None for an answer that can be used.

    `is_machines`: the machine's credential was shown.
    """
    status = response.status
    if status in (200, 304) or (ranged and status in (206, 412, 416)):
        return None
    if status in (404, 410):
        return UpstreamNotFound(f"{host} has no such module (HTTP {status})")
    if status in (401, 403):
        shown = "; this machine's credential for it was shown" if is_machines else ""
        return UpstreamDenied(f"{host} denies access to this module (HTTP {status}){shown}")
    if status == PROXY_AUTHENTICATION_REQUIRED:
        return refused_by_proxy(status, host)
    detail = f"{host} answered HTTP {status}"
    if status in _UNACCEPTABLE:
        return Unacceptable(detail)
    if status not in _PASSING:
        return Refused(detail) if 400 <= status < 500 else Hopeless(detail)
    if status not in BUSY:
        return UpstreamUnavailable(detail)
    seconds = retry_after_seconds(response.headers) or 0.0
    return Busy(f"{detail} and asks to be left alone for {seconds:.0f} s" if seconds else detail, seconds)


def _named(error: Exception, host: str) -> HubError:
    """The one place where errors of the HTTP library become ours. Nothing that the origin wrote is repeated."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return UpstreamTimeout(f"{host} could not be connected to in time")
    if isinstance(error, TimeoutError):
        return UpstreamTimeout(f"{host} stopped sending")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return UpstreamUnavailable(f"{error.host} cannot be resolved")  # which may be the proxy
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return untrusted(error.certificate_error, error.host)
    if isinstance(error, aiohttp.ClientSSLError):
        reason = getattr(getattr(error, "os_error", None), "reason", None) or type(error).__name__
        return UpstreamUnavailable(f"{host}: TLS failed ({reason}): is it https:// that is spoken there?")
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return refused_by_proxy(error.status, host)
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        reason = error.os_error.strerror or "no reason given"
        return UpstreamUnavailable(f"the proxy {error.host} cannot be connected to ({reason})")
    if isinstance(error, aiohttp.ClientConnectorError):
        return UpstreamUnavailable(f"{host} cannot be connected to ({error.os_error.strerror or 'no reason given'})")
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError | ConnectionError):
        return UpstreamUnavailable(f"{host} cut the transfer")
    return UpstreamUnavailable(f"{host} gave no usable answer ({type(error).__name__})")

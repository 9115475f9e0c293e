"""Which hosts and addresses hubd may contact.

Law: what counts is the address that is really contacted. A name is checked before it is resolved, and every
address at the moment its socket is made, redirects and IP literals included: nothing changes in between.
"""

from __future__ import annotations

import re
import socket
from contextvars import ContextVar
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

from yarl import URL

from hubclient.contract.errors import AddressForbidden, HandleForbidden
from hubd.config import NetworkSettings

Address = IPv4Address | IPv6Address

_NUMERIC = re.compile(r"[0-9a-fx.]+")

_LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")  # RFC 8215
_EMBEDDING = (
    IPv6Network("64:ff9b::/96"),  # RFC 6052, NAT64
    _LOCAL_NAT64,
    IPv6Network("::ffff:0:0:0/96"),  # RFC 2765, SIIT
)
_NOT_GLOBAL = (_LOCAL_NAT64, IPv6Network("fec0::/10"))  # RFC 3879: site-local, which `ipaddress` takes for global
_METADATA = frozenset(
    map(
        ip_address,
        (
            "168.63.129.16",  # Azure
            "100.100.100.200",  # Alibaba Cloud
            "192.0.0.192",  # Oracle Cloud
            "fd00:ec2::254",  # AWS
            "fd20:ce::254",  # Google Cloud
        ),
    )
)


def unwrapped(address: Address) -> Address:
    """The IPv4 address that an IPv6 one embeds (mapped, compatible, 6to4, Teredo, NAT64, SIIT), else the address
    itself, without a scope.
    """
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    compatible = int(address) >> 32 == 0 and int(address) > 0xFFFF
    if compatible or any(address in network for network in _EMBEDDING):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return IPv6Address(int(address))


class Guard:
    """Decides by the network settings; pure but for the sockets that it makes."""

    def __init__(self, settings: NetworkSettings) -> None:
        self._settings = settings
        self._host: ContextVar[str] = ContextVar("host", default="")
        self._is_named: ContextVar[bool] = ContextVar("is_named", default=False)
        self._refused: ContextVar[list[str] | None] = ContextVar("refused", default=None)

    def check_url(self, url: URL) -> None:
        """Raises `HandleForbidden` unless the settings allow the URL's scheme and host."""
        host = (url.raw_host or "").lower()  # `host` decodes xn--, which can fail, and names are in ASCII here
        if url.scheme != "https" and not (url.scheme == "http" and self._settings.allow_http):
            remedy = "; network.allow_http allows it" if url.scheme == "http" else ""
            raise HandleForbidden(f"{url.scheme}:// is not allowed here{remedy}")
        allowed = self._settings.allowed_hosts
        if allowed and not any(matches(host, pattern) for pattern in allowed):
            raise HandleForbidden(f"the host {host} is not in network.allowed_hosts")

    def check_literal(self, url: URL, *, is_named: bool = False) -> None:
        """For a URL that a proxy is asked for, which looks at no address for us: raises `AddressForbidden` where its
        host is written as one that may not be contacted.
        """
        self.begin(url.raw_host or "", is_named=is_named)
        address = literal(url.raw_host or "")
        if address is not None and not self.allows(address, self._host.get(), is_named=is_named):
            self._refuse(address)
            self.check_refused()

    def allows(self, address: Address, host: str, *, is_named: bool = False) -> bool:
        """Whether the address may be contacted for this host. `is_named`: the configuration names it for this."""
        real = unwrapped(address)
        if _is_never_contacted(address):
            return False
        if is_named:
            return True
        if real.is_global and not real.is_reserved and not any(address in network for network in _NOT_GLOBAL):
            return True
        private = self._settings.allow_private_addresses
        if isinstance(private, bool):
            return private
        return any(
            (real in entry or address in entry)
            if isinstance(entry, IPv4Network | IPv6Network)
            else matches(host, entry)
            for entry in private
        )

    def begin(self, host: str, *, is_named: bool = False) -> None:
        """Say for which host this task makes its next connections, and whether the configuration names it for them."""
        self._host.set(host.lower())
        self._is_named.set(is_named)
        self._refused.set([])

    def socket(self, info: tuple[Any, ...]) -> socket.socket:
        """A socket for an address of ``getaddrinfo``; `PermissionError` when it may not be contacted."""
        family, kind, protocol, _, target = info
        address = ip_address(str(target[0]).partition("%")[0])
        if not self.allows(address, self._host.get(), is_named=self._is_named.get()):
            self._refuse(address)
            raise PermissionError(f"{address} may not be contacted")
        return socket.socket(family, kind, protocol)

    def _refuse(self, address: Address) -> None:
        refused = self._refused.get()
        if refused is not None:
            refused.append(str(address))

    def check_refused(self) -> None:
        """After a failed connection: raises `AddressForbidden` if an address was refused."""
        if refused := self._refused.get():
            remedy = "; network.allow_private_addresses can allow private ones"
            if all(_is_never_contacted(ip_address(address)) for address in refused):
                remedy = ", which is never contacted"
            raise AddressForbidden(
                f"{self._host.get()} is at {', '.join(refused)}, a private or reserved address{remedy}"
            )


def literal(host: str) -> Address | None:
    """The address that a host is written as; None for a name. Resolvers also take 127.1, 0x7f000001 and the like."""
    host = host.rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761, section 6.3
        return IPv4Address("127.0.0.1")
    try:
        return ip_address(host)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host)) if _NUMERIC.fullmatch(host) else None
    except OSError:
        return None


def _is_never_contacted(address: Address) -> bool:
    """Whether no setting allows it: link-local (cloud metadata), multicast and unspecified addresses."""
    real = unwrapped(address)
    return real.is_link_local or real.is_multicast or real.is_unspecified or address.is_multicast or real in _METADATA


def matches(host: str, pattern: str) -> bool:
    """Whether a host's name, in ASCII, is the pattern's or, for ``*.example.org``, below it."""
    pattern = _ascii(pattern.lower())
    return host == pattern or (pattern.startswith("*.") and host.endswith(pattern[1:]))


def _ascii(pattern: str) -> str:
    try:
        return pattern.encode("idna").decode("ascii")
    except UnicodeError:  # no host has such a name
        return pattern

"""Which hosts and addresses hubd may contact.

Law: what counts is the address that is really contacted. A name is checked before it is resolved, and every
address at the moment its socket is made, redirects and IP literals included: nothing changes in between.
"""

from __future__ import annotations

import socket
from contextvars import ContextVar
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from yarl import URL

from hubclient.contract.errors import AddressForbidden, HandleForbidden
from hubd.config import NetworkSettings

Address = IPv4Address | IPv6Address

_NAT64 = ip_network("64:ff9b::/96")  # RFC 6052
# AWS's metadata service in IPv6 lies in the unique local range
_METADATA = frozenset({ip_address("fd00:ec2::254"), ip_address("168.63.129.16"), ip_address("100.100.100.200")})


def unwrapped(address: Address) -> Address:
    """The IPv4 address that an IPv6 one embeds (mapped, compatible, 6to4, Teredo, NAT64), else the address itself."""
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64 or (int(address) >> 32 == 0 and int(address) > 0xFFFF):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


class Guard:
    """Decides by the network settings; pure but for the sockets that it makes."""

    def __init__(self, settings: NetworkSettings) -> None:
        self._settings = settings
        self._host: ContextVar[str] = ContextVar("host", default="")
        self._refused: ContextVar[list[str] | None] = ContextVar("refused", default=None)

    def check_url(self, url: URL) -> None:
        """Raises `HandleForbidden` unless the settings allow the URL's scheme and host."""
        host = (url.host or "").lower()
        if url.scheme != "https" and not (url.scheme == "http" and self._settings.allow_http):
            remedy = "; network.allow_http allows it" if url.scheme == "http" else ""
            raise HandleForbidden(f"{url.scheme}:// is not allowed here{remedy}")
        allowed = self._settings.allowed_hosts
        if allowed and not any(_matches(host, pattern.lower()) for pattern in allowed):
            raise HandleForbidden(f"the host {host} is not in network.allowed_hosts")

    def allows(self, address: Address, host: str) -> bool:
        """Whether the address may be contacted for this host."""
        real = unwrapped(address)
        if real.is_link_local or real.is_multicast or real.is_unspecified or address.is_multicast or real in _METADATA:
            return False
        if real.is_global and not real.is_reserved:
            return True
        private = self._settings.allow_private_addresses
        if isinstance(private, bool):
            return private
        return any(
            (real in entry or address in entry)
            if isinstance(entry, IPv4Network | IPv6Network)
            else _matches(host, entry)
            for entry in private
        )

    def begin(self, host: str) -> None:
        """Say for which host this task makes its next connections."""
        self._host.set(host.lower())
        self._refused.set([])

    def socket(self, info: tuple[Any, ...]) -> socket.socket:
        """A socket for an address of ``getaddrinfo``; `PermissionError` when it may not be contacted."""
        family, kind, protocol, _, target = info
        address = ip_address(str(target[0]).partition("%")[0])
        if not self.allows(address, self._host.get()):
            refused = self._refused.get()
            if refused is not None:
                refused.append(str(address))
            raise PermissionError(f"{address} may not be contacted")
        return socket.socket(family, kind, protocol)

    def check_refused(self) -> None:
        """After a failed connection: raises `AddressForbidden` if an address was refused."""
        if refused := self._refused.get():
            raise AddressForbidden(
                f"{self._host.get()} is at {', '.join(refused)}, a private or reserved address; "
                "network.allow_private_addresses can allow private ones"
            )


def _matches(host: str, pattern: str) -> bool:
    return host == pattern or (pattern.startswith("*.") and host.endswith(pattern[1:]))

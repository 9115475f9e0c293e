"""Which hosts and addresses hubd may contact.

Law: what counts is the address that is really contacted. A name is checked before it is resolved, and every
address at the moment its socket is made, redirects and IP literals included: nothing changes in between.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from contextvars import ContextVar
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any

from yarl import URL

from hubclient.contract.errors import AddressForbidden, HandleForbidden
from hubd.addresses import LOCAL_NAT64, Address, is_never_contacted, literal, unwrapped
from hubd.config import NetworkSettings

_NOT_GLOBAL = (LOCAL_NAT64, IPv6Network("fec0::/10"))  # RFC 3879: site-local, which `ipaddress` takes for global


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
        if is_never_contacted(address):
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

    def check_addresses(self, host: str, addresses: Iterable[Address], *, is_named: bool = False) -> None:
        """For one that connects by itself: raises `AddressForbidden` if a host has an address that it must not ask."""
        self.begin(host, is_named=is_named)
        for address in addresses:
            if not self.allows(address, host.lower(), is_named=is_named):
                self._refuse(address)
        self.check_refused()

    def _refuse(self, address: Address) -> None:
        refused = self._refused.get()
        if refused is not None:
            refused.append(str(address))

    def check_refused(self) -> None:
        """After a failed connection: raises `AddressForbidden` if an address was refused."""
        if refused := self._refused.get():
            remedy = "; network.allow_private_addresses can allow private ones"
            if all(is_never_contacted(ip_address(address)) for address in refused):
                remedy = ", which is never contacted"
            raise AddressForbidden(
                f"{self._host.get()} is at {', '.join(refused)}, a private or reserved address{remedy}"
            )


def matches(host: str, pattern: str) -> bool:
    """Whether a host's name, in ASCII, is the pattern's or, for ``*.example.org``, below it."""
    pattern = _ascii(pattern.lower())
    return host == pattern or (pattern.startswith("*.") and host.endswith(pattern[1:]))


def _ascii(pattern: str) -> str:
    try:
        return pattern.encode("idna").decode("ascii")
    except UnicodeError:  # no host has such a name
        return pattern

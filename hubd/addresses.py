"""IP addresses: which one a host is written as, what it embeds, and which are contacted in no case.

Law: an address is judged by what is really contacted, however it is written.
"""

from __future__ import annotations

import re
import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address

LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")  # RFC 8215

_NUMERIC = re.compile(r"[0-9a-fx.]+")
_EMBEDDING = (
    IPv6Network("64:ff9b::/96"),  # RFC 6052, NAT64
    LOCAL_NAT64,
    IPv6Network("::ffff:0:0:0/96"),  # RFC 2765, SIIT
)
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


def is_never_contacted(address: Address) -> bool:
    """Whether no setting allows it: link-local (cloud metadata), multicast and unspecified addresses."""
    real = unwrapped(address)
    return real.is_link_local or real.is_multicast or real.is_unspecified or address.is_multicast or real in _METADATA

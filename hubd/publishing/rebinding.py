"""Whether a request comes from a page of the dashboard's own, and not from somebody else's site in a browser.

Law: pure. A site's name can be made to lead to this machine (DNS rebinding), and then its scripts may read what is
here: so only names that no site can have are answered. What a browser says of where a request is from is heeded too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from ipaddress import ip_address

from hubd.network.guard import matches

_LOOPBACK_NAME = "localhost"  # RFC 6761, section 6.3: no name server is asked for it


def host_of(authority: str) -> str | None:
    """The name or address in a Host header, in lower case, without port and brackets; None for what is no such."""
    host, colon, port = authority.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = authority, ""
    if (port and not (port.isascii() and port.isdigit())) or not host:
        return None
    if host.startswith("[") and host.endswith("]"):
        return host[1:-1].lower()
    return host.lower() if not set(host) & set("[]:/@ ") else None


def is_allowed(authority: str, reached: str, names: Iterable[str]) -> bool:
    """Whether a Host header names loopback, the address `reached` that the request came to, or one of these names."""
    host = host_of(authority)
    if host is None:
        return False
    with suppress(ValueError):
        address = ip_address(host)
        if address.is_loopback or (reached and address == ip_address(reached)):
            return True
        return str(address) in names
    return host == _LOOPBACK_NAME or any(matches(host, name) for name in names)


def is_foreign(headers: Mapping[str, str]) -> bool:
    """Whether a page of another origin asks, not to be shown, but for its own use: it could not read the answer, and
    yet keep a place. Fetch Metadata, https://www.w3.org/TR/fetch-metadata/"""
    site = headers.get("Sec-Fetch-Site", "none")
    return site not in ("none", "same-origin") and headers.get("Sec-Fetch-Mode") != "navigate"

"""Credentials: what proves to one host who asks, and where it may go.

Law: a value is shown by `Credential.header` alone; neither `repr` nor an error tells it, and it cannot be pickled.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Literal, NoReturn
from urllib.parse import urlsplit

from hubclient.contract import handles
from hubclient.contract.errors import HandleInvalid

MAX_VALUE_LENGTH = 8192

Type = Literal["bearer", "basic"]


@dataclass(frozen=True, slots=True)
class Credential:
    """A bearer token (RFC 6750), or for ``basic`` (RFC 7617) a ``user:password``.

    Raises `ValueError` for what cannot stand in a header: a value is 1 to 8192 printable ASCII characters.
    """

    type: Type
    value: str = field(repr=False)

    def __post_init__(self) -> None:
        if self.type not in ("bearer", "basic"):
            raise ValueError('a credential\'s type is "bearer" or "basic"')
        if not 0 < len(self.value) <= MAX_VALUE_LENGTH or not (self.value.isascii() and self.value.isprintable()):
            raise ValueError(f"a credential is 1 to {MAX_VALUE_LENGTH} printable ASCII characters, in one line")
        if self.type == "bearer" and " " in self.value:
            raise ValueError("a bearer token has no spaces")
        if self.type == "basic" and ":" not in self.value:
            raise ValueError("a basic credential is user:password")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a credential is not written down")

    def header(self) -> str:
        """The value of ``Authorization``."""
        return f"Bearer {self.value}" if self.type == "bearer" else f"Basic {b64encode(self.value.encode()).decode()}"


def authority(entry: str) -> str:
    """The one spelling of a ``host`` or ``host:port``, without the port of https. Raises `ValueError` for others."""
    try:
        url = urlsplit(handles.canonical(f"https://{entry}"))
    except HandleInvalid:
        url = None
    if url is None or url.path or url.query or "?" in entry or "#" in entry:
        raise ValueError('must be a host such as "models.example.org", or with a port "models.example.org:8443"')
    return url.netloc


def may_travel(scheme: str, host: str) -> bool:
    """Whether a credential may be sent so: over TLS, or without it to this machine itself.

    Of the names ``localhost`` alone is surely this machine (RFC 6761, section 6.3).
    """
    return scheme == "https" or (scheme == "http" and _is_loopback(host))


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

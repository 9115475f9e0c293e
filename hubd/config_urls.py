"""URLs and hosts in the configuration: the handles that a mirror answers for, and where hosts, mirrors and proxies are.

Law: what is no such URL is refused with a reason, and what is accepted has one spelling.
"""

from __future__ import annotations

from contextlib import suppress
from ipaddress import ip_address
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from hubclient.contract import handles
from hubclient.contract.errors import HandleInvalid

_FILE_HOSTS = ("", "localhost")  # RFC 8089, section 2


def handle_prefix(value: object) -> object:
    """The beginning that handles have in common: a host, and whole segments of a path. It ends with a slash."""
    return _slashed(plain_url(value, "a prefix of handles"))


def mirror_url(value: object) -> object:
    """Where a mirror has what follows the prefix: ``https://``, ``http://`` or ``file:///``. It ends with a slash."""
    if not is_directory(value):
        return _slashed(plain_url(value, "a mirror", ("https://", "http://", "file:///")))
    url = urlsplit(str(value))
    if url.netloc.lower() not in _FILE_HOSTS or not url.path.startswith("/") or url.query or url.fragment:
        raise ValueError('a mirror in a directory is a URL such as "file:///srv/modules/"')
    if "\0" in unquote(url.path) or any(unquote(segment) in (".", "..") for segment in url.path.split("/")):
        raise ValueError("the path of a mirror has no '.' or '..' segment")
    return _slashed(f"file://{url.path}")


def proxy_url(value: object) -> object:
    """Where a proxy is: scheme, host and port."""
    url = urlsplit(plain_url(value, "a proxy"))
    if url.path not in ("", "/"):
        raise ValueError('a proxy is a URL such as "http://proxy.lan:3128"')
    return f"{url.scheme}://{url.netloc}"


def host_name(value: object) -> object:
    """A host's name, without a port, or its address (an IPv6 one in brackets)."""
    try:
        url = urlsplit(handles.canonical(f"https://{value}"))
    except HandleInvalid:
        url = urlsplit("")
    if url.path or url.query or url.port is not None or not url.hostname or str(value).startswith("https:"):
        raise ValueError(f'a host is a name such as "models.lan", without a scheme or a port: not {_shown(value)}')
    return url.hostname


def host_pattern(value: object) -> object:
    """A host's name in ASCII, ``*.`` before it for those below it, or an address."""
    if not isinstance(value, str):
        raise ValueError("a host is a name in quotes")
    with suppress(ValueError):
        return str(ip_address(value))
    wildcard = "*." if value.startswith("*.") else ""
    try:
        return f"{wildcard}{host_name(value.removeprefix(wildcard))}"
    except ValueError:
        raise ValueError(
            f'a host is a name such as "models.lan", or "*.example.org" for all below it: not {_shown(value)}'
        ) from None


def listen_address(value: object) -> object:
    """An address of this machine and a port, ``127.0.0.1:9841`` or ``[::1]:9841``."""
    url = urlsplit(f"//{value}")
    with suppress(ValueError):
        address = ip_address(url.hostname or "")
        if isinstance(value, str) and url.port and url.netloc == value and not {"%", "@"} & {*value}:
            return f"[{address}]:{url.port}" if address.version == 6 else f"{address}:{url.port}"
    raise ValueError(f'must be an address and a port such as "127.0.0.1:9841" or "[::1]:9841", not {_shown(value)}')


def is_loopback(listen: str) -> bool:
    """Whether what `listen_address` has accepted can be reached from this machine alone."""
    return ip_address(urlsplit(f"//{listen}").hostname or "").is_loopback


def is_directory(url: object) -> bool:
    """Whether a mirror's URL names a directory of this machine."""
    return isinstance(url, str) and url[:5].lower() == "file:"


def directory(url: str) -> bytes:
    """The path of the directory that a mirror's URL names."""
    return unquote_to_bytes(urlsplit(url).path)


def plain_url(value: object, what: str, starts: tuple[str, ...] = ("https://", "http://")) -> str:
    """The one spelling of a URL without a query."""
    if not isinstance(value, str):
        raise ValueError(f"{what} is a URL in quotes")
    if not value.lower().startswith(starts):
        raise ValueError(f"{what} must be a URL that starts with {' or '.join(starts)}")
    try:
        canonical = handles.canonical(value)
    except HandleInvalid as error:
        raise ValueError(f"{what} must be a URL: {str(error).replace('the handle', 'it')}") from None
    if "?" in canonical:
        raise ValueError(f"the URL of {what} has no query")
    return canonical


def _shown(value: object) -> str:
    """What was stated, but no password."""
    return repr(str(value).rpartition("@")[2][:40])


def _slashed(url: str) -> str:
    return url if url.endswith("/") else url + "/"

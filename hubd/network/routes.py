"""How a host is reached: directly, or by the proxy of the configuration.

Law: the environment decides nothing, and the proxy's credentials are sent to the proxy alone.
"""

from __future__ import annotations

import base64
import os
import stat
from dataclasses import dataclass, field

from yarl import URL

from hubclient.contract.errors import HubError, UpstreamUnavailable
from hubd.addresses import literal
from hubd.config import ConfigError, NetworkSettings
from hubd.failures import Hopeless
from hubd.network.guard import matches

PROXY_AUTHENTICATION_REQUIRED = 407
_MAX_CREDENTIALS_BYTES = 8192


@dataclass(frozen=True)
class Proxy:
    """Where it is, and what it is told with each request to be let through."""

    url: URL
    credentials: str | None = field(default=None, repr=False)  # user:password

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.credentials is None else {"Proxy-Authorization": basic(self.credentials)}

    def full_url(self) -> str:
        """With the credentials, for a library that takes them so."""
        if self.credentials is None:
            return str(self.url)
        user, _, password = self.credentials.partition(":")
        return str(self.url.with_user(user).with_password(password))

    @property
    def host(self) -> str:
        return (self.url.raw_host or "").lower()


class Routes:
    """Decided once from the settings. Raises `ConfigError` for a file of credentials that cannot be used."""

    def __init__(self, settings: NetworkSettings) -> None:
        self._proxy: Proxy | None = None
        self._direct = settings.no_proxy
        if settings.proxy is not None:
            file = settings.proxy_credentials_file
            self._proxy = Proxy(URL(settings.proxy), read_credentials(file) if file is not None else None)

    def proxy(self, host: str) -> Proxy | None:
        """The proxy to reach a host (lower case, ASCII) by. This machine itself is never behind one."""
        address = literal(host)
        is_direct = (address is not None and address.is_loopback) or any(matches(host, name) for name in self._direct)
        return None if is_direct else self._proxy


def refused_by_proxy(status: int, host: str) -> HubError:
    """What the proxy's own status means for the way to a host."""
    if status == PROXY_AUTHENTICATION_REQUIRED:
        return Hopeless(
            f"the proxy wants credentials, or other ones (HTTP {status}): network.proxy_credentials_file names a file"
        )
    if status >= 500:
        return UpstreamUnavailable(f"the proxy cannot reach {host} (HTTP {status})")
    return Hopeless(f"the proxy refuses to lead to {host} (HTTP {status})")


def basic(credentials: str) -> str:
    """What HTTP's Basic scheme makes of ``user:password`` (RFC 7617)."""
    return "Basic " + base64.b64encode(credentials.encode()).decode()


def read_credentials(file: str) -> str:
    """``user:password``, the only line of the file.

    Raises `ConfigError`, which never repeats what is in it, also where others could read the file, or have written it.
    """
    key = f"network.proxy_credentials_file: {file}"
    try:
        with open(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as opened:
            status = os.fstat(opened.fileno())
            content = opened.read(_MAX_CREDENTIALS_BYTES + 1) if stat.S_ISREG(status.st_mode) else b""
    except OSError as error:
        raise ConfigError(f"{key} cannot be read: {error.strerror}") from None
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o077 & ~_group_of_root(status):
        raise ConfigError(f"{key} must belong to root or to hubd's user, and be closed to others: chmod 600")
    text = content.decode("utf-8", "replace").removesuffix("\n").removesuffix("\r")
    if ":" not in text or not text.isprintable() or len(content) > _MAX_CREDENTIALS_BYTES or "\ufffd" in text:
        raise ConfigError(f"{key} must have one line, user:password")
    return text


def _group_of_root(status: os.stat_result) -> int:
    """The right of the group to read a file of root's: that is how root hands one to the service's user."""
    return stat.S_IRGRP if status.st_uid == 0 and status.st_gid in (os.getegid(), *os.getgroups()) else 0

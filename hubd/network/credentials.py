"""Which credential goes along with a request, on each hop of its way.

Law: it goes to the host and port that it is for, and to no other: a caller's own as long as no hop led elsewhere, a
machine's wherever a hop is its host. Neither travels over plain HTTP but to loopback, and neither is ever told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

from yarl import URL

from hubclient.contract.credentials import MAX_VALUE_LENGTH, Credential, Type, may_travel
from hubclient.contract.errors import HandleForbidden
from hubd.config import ConfigError
from hubd.config_stores import CredentialSettings
from hubd.secret_files import SecretFile

__all__ = ["Credential", "MachineCredentials", "OwnCredential", "credential_for"]

_MAX_FILE_BYTES = MAX_VALUE_LENGTH + 2  # with the end of its line


@dataclass(frozen=True)
class OwnCredential:
    """A caller's credential, and the URL whose host it is for: the handle's.

    Raises `HandleForbidden` for one that could only travel in the open.
    """

    credential: Credential
    home: URL

    def __post_init__(self) -> None:
        if not _may_travel_to(self.home):
            raise HandleForbidden("a credential is not sent over http://, but to this machine itself: use https://")


def authority_of(url: URL) -> str:
    """``host`` or ``host:port``, as in a canonical handle."""
    host = (url.raw_host or "").lower()
    host = f"[{host}]" if ":" in host else host
    return host if url.is_default_port() else f"{host}:{url.port}"


def credential_for(
    way: Sequence[URL], own: OwnCredential | None, machine: MachineCredentials | None = None
) -> Credential | None:
    """What is sent with the request for the last URL of the way, whose others redirected to the next one each."""
    here = way[-1]
    if not _may_travel_to(here):
        return None
    if own is not None and all(_is_same_origin(hop, own.home) for hop in way):
        return own.credential
    return machine.of(authority_of(here)) if machine is not None else None


def _may_travel_to(url: URL) -> bool:
    return may_travel(url.scheme, (url.raw_host or "").lower())


def _is_same_origin(one: URL, other: URL) -> bool:
    return (one.scheme, authority_of(one)) == (other.scheme, authority_of(other))


class MachineCredentials:
    """Those of the configuration for hosts, as their files say now.

    One that cannot be used any more is none, and the log says so. Raises `ConfigError` for one that never could.
    """

    def __init__(self, entries: Sequence[CredentialSettings] = ()) -> None:
        self._files: dict[str, SecretFile[Credential]] = {}
        for entry in entries:
            if entry.host is None:
                continue
            try:
                self._files[entry.host] = SecretFile(
                    entry.file, entry.host, partial(_parse, entry.type), max_bytes=_MAX_FILE_BYTES
                )
            except ValueError as error:
                raise ConfigError(f"[[credential]] for {entry.host}: {error}") from None

    def of(self, authority: str) -> Credential | None:
        """The credential for this host."""
        file = self._files.get(authority)
        return file.now() if file is not None else None


def _parse(kind: str, data: bytes) -> Credential:
    try:
        text = data.decode("ascii").rstrip("\r\n")
    except UnicodeDecodeError:  # which would repeat what is in the file
        text = ""
    return Credential(cast(Type, kind), text)  # which refuses another type

"""Which credential goes along with a request, on each hop of its way.

Law: it goes to the host and port that it is for, and to no other: a caller's own as long as no hop led elsewhere, a
machine's wherever a hop is its host. Neither travels over plain HTTP but to loopback, and neither is ever told.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from yarl import URL

from hubclient.contract.credentials import MAX_VALUE_LENGTH, Credential, may_travel
from hubclient.contract.errors import HandleForbidden
from hubd.config import ConfigError, CredentialSettings

__all__ = ["Credential", "MachineCredentials", "OwnCredential", "credential_for"]

log = logging.getLogger(__name__)

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


class _Stamp(NamedTuple):
    """Another one means that the file may say something else."""

    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int  # a change of owner or mode too


class MachineCredentials:
    """Those of the configuration, as their files say now: a file that changed is read again at its next use.

    One that cannot be used any more is none, and the log says so. Raises `ConfigError` for one that never could.
    """

    def __init__(self, entries: Sequence[CredentialSettings] = ()) -> None:
        self._entries = {entry.host: entry for entry in entries}
        self._read: dict[str, tuple[_Stamp | None, Credential | None]] = {}
        for entry in entries:
            try:
                self._read[entry.host] = _load(entry)
            except (OSError, ValueError) as error:
                raise ConfigError(f"[[credential]] for {entry.host}: {_complaint(entry, error)}") from None

    def of(self, authority: str) -> Credential | None:
        """The credential for this host."""
        entry = self._entries.get(authority)
        if entry is None:
            return None
        stamp, credential = self._read[authority]
        if _stamp_of(entry.file) == stamp:
            return credential
        try:
            self._read[authority] = _load(entry)
            log.info("the credential for %s was read again", authority)
        except (OSError, ValueError) as error:
            log.warning("there is no credential for %s: %s", authority, _complaint(entry, error))
            self._read[authority] = _stamp_of(entry.file), None
        return self._read[authority][1]


def _load(entry: CredentialSettings) -> tuple[_Stamp, Credential]:
    """Raises `OSError`, and `ValueError` with the fault of the file."""
    fd = os.open(entry.file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a named pipe keeps nobody waiting
    try:
        status = os.fstat(fd)
        if (fault := _fault(status)) is not None:
            raise ValueError(fault)
        data = os.read(fd, _MAX_FILE_BYTES + 1)
    finally:
        os.close(fd)
    if len(data) > _MAX_FILE_BYTES:
        raise ValueError("is too long")
    try:
        text = data.decode("ascii").rstrip("\r\n")
    except UnicodeDecodeError:  # which would repeat what is in the file
        text = ""
    return _stamp(status), Credential(entry.type, text)


def _fault(status: os.stat_result) -> str | None:
    """Why others could know, or could have put there, what is in the file."""
    if not stat.S_ISREG(status.st_mode):
        return "is no regular file"
    if status.st_uid not in (0, os.geteuid()):
        return f"belongs to uid {status.st_uid}: chown it to root or to the daemon's user"
    if status.st_mode & 0o037:
        return f"can be read or written by others (mode {stat.S_IMODE(status.st_mode):04o}): chmod it to 0600 or 0640"
    return None


def _complaint(entry: CredentialSettings, error: OSError | ValueError) -> str:
    return f"{entry.file} " + (f"cannot be read: {error.strerror}" if isinstance(error, OSError) else str(error))


def _stamp_of(file: str) -> _Stamp | None:
    try:
        return _stamp(os.stat(file))
    except OSError:
        return None


def _stamp(status: os.stat_result) -> _Stamp:
    return _Stamp(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

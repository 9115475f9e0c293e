"""Digests that an origin sends with an archive, and whether they hold for what arrived.

Law: what is compared covers the archive as it lies in the spool: the bytes of the answers' bodies as they were sent,
content coding included. What cannot be parsed, or covers something else, counts as not sent.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from multidict import MultiMapping

from hubclient.contract.errors import ArchiveCorrupt

_CRC32C_BYTES = 4

# Names in the IANA registry of RFC 9530, as hashlib knows them. Its checksums (adler, crc32c, unixsum, ...) have no
# byte order that senders agree on there.
_RFC_9530 = {"sha-256": "sha256", "sha-512": "sha512", "sha": "sha1", "md5": "md5"}
_GOOGLE = {"md5": "md5", "crc32c": "crc32c"}

# A member of a dictionary of structured fields (RFC 9651, section 3.2); of values that are lists there is none here.
_VALUE = (
    r'(?::[A-Za-z0-9+/=]*:|"(?:[ !#-\[\]-~]|\\["\\])*"|\?[01]|@?-?[0-9]+(?:\.[0-9]+)?|[A-Za-z*][!#-\'*+\--:A-Z^-z|~]*)'
)
_KEY = r"[a-z*][a-z0-9_.*\-]*"
_MEMBER = re.compile(rf"({_KEY})(?:=({_VALUE}))?(?: *;[ ]*{_KEY}(?:={_VALUE})?)*[ \t]*(?:,[ \t]*(?=[a-z*])|\Z)")


class Stated(NamedTuple):
    """One digest that an origin sent: in which header, of which algorithm."""

    header: str
    algorithm: str
    value: bytes


@dataclass(frozen=True)
class Expected:
    """The digests that the whole archive must have."""

    digests: tuple[Stated, ...] = ()

    @classmethod
    def stated(cls, headers: MultiMapping[str], *, is_whole: bool) -> Expected:
        """Those of an answer's headers. `is_whole`: it is the whole archive (200), and not a range of it (206).

        ``Repr-Digest`` covers the selected representation (RFC 9530, section 3), of which a range is a part, and
        ``Content-Digest`` (section 2) and ``Content-MD5`` (RFC 1864) what this one answer carries. All three are made
        after content coding, as the spool is. ``x-goog-hash`` covers the object as it is stored, ranges or not: with
        another coding in the answer (decompressive transcoding) it says nothing of what was sent.
        """
        found = list(_of_dictionary("Repr-Digest", headers))
        if is_whole:
            found += _of_dictionary("Content-Digest", headers)
            found += _of_content_md5(headers)
        if _coding(headers, "x-goog-stored-content-encoding") == _coding(headers, "Content-Encoding"):
            found += _of_google(headers)
        return cls(tuple(dict.fromkeys(found)))


class Checker:
    """The sha256 of an archive and whatever else the origin sent of it, all of one pass over its bytes."""

    def __init__(self, expected: Expected | None = None) -> None:
        self._expected = expected or Expected()
        self._sha256 = hashlib.sha256()
        algorithms = {stated.algorithm for stated in self._expected.digests} - {"sha256"}
        self._others = {name: made for name in sorted(algorithms) if (made := _hash(name)) is not None}

    def update(self, piece: bytes) -> None:
        """The next bytes, in their order. Takes time: for a thread."""
        self._sha256.update(piece)
        for other in self._others.values():
            other.update(piece)

    def finish(self) -> str:
        """The hex sha256 of all bytes. Raises `ArchiveCorrupt` when they are not those that the origin means."""
        found = {"sha256": self._sha256.digest()} | {name: other.digest() for name, other in self._others.items()}
        for header, algorithm, value in self._expected.digests:
            if algorithm in found and found[algorithm] != value:
                raise ArchiveCorrupt(
                    f"the archive's {algorithm} is {found[algorithm].hex()}, and the origin says {value.hex()} "
                    f"({header}): it was damaged on its way"
                )
        return found["sha256"].hex()


class Unchecked(Checker):
    """Of an archive whose digest says nothing, since hubd has put it together itself."""

    def update(self, piece: bytes) -> None:
        pass

    def finish(self) -> str:
        return ""


class _Hash(Protocol):
    def update(self, piece: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


class _Crc32c:
    def __init__(self, extend: Callable[[int, bytes], int]) -> None:
        self._extend = extend
        self._value = 0

    def update(self, piece: bytes, /) -> None:
        self._value = self._extend(self._value, piece)

    def digest(self) -> bytes:
        return self._value.to_bytes(_CRC32C_BYTES, "big")


def _hash(algorithm: str) -> _Hash | None:
    """None where it would hold a transfer up: CRC32C in Python alone is slower than any network."""
    if algorithm != "crc32c":
        return hashlib.new(algorithm, usedforsecurity=False)
    import google_crc32c

    return _Crc32c(google_crc32c.extend) if google_crc32c.implementation == "c" else None


def _of_dictionary(header: str, headers: MultiMapping[str]) -> Iterator[Stated]:
    """The members that are digests of algorithms that are known; of a name that comes twice the last one."""
    text = ", ".join(headers.getall(header, ())).strip(" ")
    members: dict[str, str] = {}
    at = 0
    while at < len(text):
        member = _MEMBER.match(text, at)
        if member is None:
            return  # a field that is malformed anywhere is ignored (RFC 9651, section 4.2)
        members[member[1]] = member[2] or ""
        at = member.end()
    for name, value in members.items():
        if name in _RFC_9530 and len(value) >= 2 and value[0] == value[-1] == ":":
            yield from _digest(header, _RFC_9530[name], value[1:-1])


def _of_content_md5(headers: MultiMapping[str]) -> Iterator[Stated]:
    values = headers.getall("Content-MD5", ())
    if len(values) == 1:
        yield from _digest("Content-MD5", "md5", values[0].strip())


def _of_google(headers: MultiMapping[str]) -> Iterator[Stated]:
    """Pairs ``crc32c=...`` and ``md5=...``, in one header or in several."""
    for pair in ",".join(headers.getall("x-goog-hash", ())).split(","):
        name, _, value = pair.strip().partition("=")
        if name.lower() in _GOOGLE:
            yield from _digest("x-goog-hash", _GOOGLE[name.lower()], value)


def _digest(header: str, algorithm: str, text: str) -> Iterator[Stated]:
    """The digest, unless it is no base64 or of another length than the algorithm's."""
    length = _CRC32C_BYTES if algorithm == "crc32c" else hashlib.new(algorithm, usedforsecurity=False).digest_size
    try:
        value = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):  # the second: not ASCII
        return
    if len(value) == length:
        yield Stated(header, algorithm, value)


def _coding(headers: MultiMapping[str], header: str) -> str:
    return ",".join(headers.getall(header, ())).strip().lower() or "identity"

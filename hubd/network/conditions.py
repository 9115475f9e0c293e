"""Conditional requests and requests for the rest of an archive (RFC 9110, sections 13 and 14): what to ask, and what an
answer to it is worth.

Law: what is put together from two answers is one version of the archive, by the word of whoever sent both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import NamedTuple

_MAX_VALIDATOR_LENGTH = 1024
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.ASCII | re.IGNORECASE)


class RangeRefused(Exception):
    """The rest of an archive was asked for, and the answer is none that fits what is here."""


@dataclass(frozen=True)
class Validators:
    """What an earlier answer said of its version, for a conditional request (RFC 9110, section 13)."""

    etag: str | None = None
    last_modified: str | None = None

    @classmethod
    def stated(cls, headers: Mapping[str, str]) -> Validators:
        """Those of an answer. One that is not printable ASCII, or over 1 KB, counts as not sent."""
        return cls(_validator(headers.get("ETag")), _validator(headers.get("Last-Modified")))

    def headers(self) -> dict[str, str]:
        stated = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
        return {name: value for name, value in stated.items() if value is not None}

    def or_else(self, earlier: Validators) -> Validators:
        """These, and the earlier ones where an answer did not repeat them."""
        return Validators(self.etag or earlier.etag, self.last_modified or earlier.last_modified)


def strong(validators: Validators, headers: Mapping[str, str]) -> Validators | None:
    """The validators of an answer if one may stand in If-Range (RFC 9110, section 13.1.5), else None.

    That is a strong ETag; or, where there is no ETag at all, a Last-Modified a second older than the answer's Date
    (section 8.8.2.2): in less, two versions could have the same. An origin that says it serves no ranges has none.
    """
    if headers.get("Accept-Ranges", "").strip().lower() == "none":
        return None
    if validators.etag is not None:
        is_strong = len(validators.etag) >= 2 and validators.etag[0] == validators.etag[-1] == '"'
        return validators if is_strong else None
    if validators.last_modified is None:
        return None
    try:
        modified, answered = map(parsedate_to_datetime, (validators.last_modified, headers.get("Date", "")))
        return validators if answered - modified >= timedelta(seconds=1) else None
    except (ValueError, TypeError, OverflowError):  # no date, or only one of the two with a time zone
        return None


class ContentRange(NamedTuple):
    """Bytes ``[start, end)`` of `total_bytes`, None where the origin does not know."""

    start: int
    end: int
    total_bytes: int | None

    @classmethod
    def parse(cls, value: str | None) -> ContentRange | None:
        """None for what is no range of bytes (RFC 9110, section 14.4)."""
        match = _CONTENT_RANGE.fullmatch(value.strip()) if value is not None else None
        if match is None:
            return None
        start, end = int(match[1]), int(match[2]) + 1
        total_bytes = int(match[3]) if match[3] != "*" else None
        return cls(start, end, total_bytes) if start < end <= (total_bytes or end) else None


@dataclass(frozen=True)
class Resume:
    """The wish for bytes ``[from_bytes, end_bytes)`` (None: for all from there on), if the archive is still the one of
    these (strong) validators."""

    from_bytes: int
    total_bytes: int | None
    validators: Validators
    end_bytes: int | None = None

    def headers(self) -> dict[str, str]:
        condition = self.validators.etag or self.validators.last_modified or ""
        last = "" if self.end_bytes is None else str(self.end_bytes - 1)
        return {"Range": f"bytes={self.from_bytes}-{last}", "If-Range": condition}

    def total_of(self, content_range: ContentRange | None, stated: Validators) -> int | None:
        """The size of the whole archive (None: still not known) by an answer 206 that goes on from what is here.

        Raises `RangeRefused` when it does not.
        """
        if content_range is None:
            raise RangeRefused("without a range of bytes")
        if content_range.start != self.from_bytes:
            raise RangeRefused(f"with bytes from {content_range.start} on, not from {self.from_bytes} on")
        if self.total_bytes is not None and content_range.total_bytes != self.total_bytes:
            raise RangeRefused(f"of {content_range.total_bytes} bytes, not of {self.total_bytes}")
        # An ETag must be repeated (section 15.3.7), a Last-Modified need not.
        if stated.etag != self.validators.etag:
            raise RangeRefused("with another ETag")
        if stated.last_modified not in (None, self.validators.last_modified):
            raise RangeRefused("with another Last-Modified")
        return content_range.total_bytes


def _validator(value: str | None) -> str | None:
    return value if value and len(value) <= _MAX_VALIDATOR_LENGTH and value.isascii() and value.isprintable() else None

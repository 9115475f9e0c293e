"""An archive as an answer: whole, in part, or the word that the client's own is still good.

Law: `decide` follows RFC 9110, sections 13.2.2 (the order of conditions) and 14.2 (ranges); what it sends is always of
the one file that it opened, by sendfile(2), in memory that does not grow with it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import BinaryIO, NamedTuple

from aiohttp import web

from hubd.publishing.sending import send_file

_RANGE = re.compile(r"bytes=[ \t]*(\d{0,19})-(\d{0,19})[ \t]*", re.ASCII | re.IGNORECASE)
_ETAGS = re.compile(r'[ \t]*(W/)?("[\x21\x23-\x7e\x80-\xff]*")[ \t]*(?:,|$)')


class Selected(NamedTuple):
    """Bytes ``[start, end)`` and the status that goes with them; none, but for 200 and 206."""

    status: int
    start: int = 0
    end: int = 0


class Representation(NamedTuple):
    """What there is to send."""

    digest: str  #: hex sha256
    size_bytes: int
    modified_at: float

    @property
    def etag(self) -> str:
        """Strong: other bytes have another one."""
        return f'"sha256-{self.digest}"'

    def headers(self) -> dict[str, str]:
        """Those of all answers about it. The digest is of RFC 9530, section 3."""
        modified = datetime.fromtimestamp(int(self.modified_at), UTC)
        return {
            "ETag": self.etag,
            "Last-Modified": format_datetime(modified, usegmt=True),
            "Repr-Digest": f"sha-256=:{base64.b64encode(bytes.fromhex(self.digest)).decode()}:",
            "Accept-Ranges": "bytes",
        }


def decide(asked: Mapping[str, str], found: Representation) -> Selected:
    """What of it answers a GET with these headers."""
    if (match := asked.get("If-Match")) is not None:
        if not _names(match, found.etag, weakly=False):
            return Selected(412)
    elif (since := _date(asked.get("If-Unmodified-Since"))) is not None and int(found.modified_at) > since:
        return Selected(412)
    if (none_match := asked.get("If-None-Match")) is not None:
        if _names(none_match, found.etag, weakly=True):
            return Selected(304)
    elif (since := _date(asked.get("If-Modified-Since"))) is not None and int(found.modified_at) <= since:
        return Selected(304)
    whole = Selected(200, 0, found.size_bytes)
    if "Range" not in asked or not _is_still(asked.get("If-Range"), found):
        return whole
    return _part(asked["Range"], found.size_bytes) or whole


def _part(stated: str, size_bytes: int) -> Selected | None:
    """The part that one range names. Of several, or of what is none, None: a server may send the whole (14.2)."""
    if (range_ := _RANGE.fullmatch(stated)) is None or not (range_[1] or range_[2]):
        return None
    if not range_[1]:  # the last so many
        length = min(int(range_[2]), size_bytes)
        return Selected(206, size_bytes - length, size_bytes) if length else Selected(416)
    start = int(range_[1])
    end = min(int(range_[2]) + 1, size_bytes) if range_[2] else size_bytes
    if range_[2] and int(range_[2]) < start:
        return None
    return Selected(206, start, end) if start < size_bytes else Selected(416)


def _names(stated: str, etag: str, *, weakly: bool) -> bool:
    """Whether a list of entity tags has this one (8.8.3.2)."""
    if stated.strip() == "*":
        return True
    return any(tag == etag and (weakly or not weak) for weak, tag in _ETAGS.findall(stated))


def _is_still(condition: str | None, found: Representation) -> bool:
    """If-Range (13.1.5): the same strong tag, or exactly the same date."""
    if condition is None:
        return True
    if '"' in condition:
        return condition.strip() == found.etag
    return _date(condition) == int(found.modified_at)


def _date(stated: str | None) -> float | None:
    """None for what is no date, which counts as not sent (13.1.3)."""
    if stated is None:
        return None
    try:
        return parsedate_to_datetime(stated).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


async def send(
    request: web.Request, file: BinaryIO, found: Representation, headers: Mapping[str, str]
) -> web.StreamResponse:
    """Answer a GET or HEAD with the open file, which stays open. `headers` go with each answer.

    Raises `ConnectionError` when the client leaves, or takes too little for too long.
    """
    selected = decide(request.headers, found)
    if request.method == "HEAD" and selected.status in (206, 416):
        selected = Selected(200, 0, found.size_bytes)  # a range means something to GET alone (14.2)
    response = web.StreamResponse(status=selected.status, headers={**headers, **found.headers(), "Server": "hubd"})
    if selected.status == 304:
        await response.prepare(request)
        await response.write_eof()
        return response
    response.content_type = "application/gzip"
    response.content_length = selected.end - selected.start
    if selected.status == 206:
        response.headers["Content-Range"] = f"bytes {selected.start}-{selected.end - 1}/{found.size_bytes}"
    elif selected.status == 416:
        response.headers["Content-Range"] = f"bytes */{found.size_bytes}"
    writer = await response.prepare(request)
    if request.method != "HEAD" and selected.end > selected.start and writer is not None:
        await writer.drain()  # the head is on its way, and nothing else is written until all is sent
        await send_file(request.transport, file, selected.start, selected.end)
    await response.write_eof()
    return response

"""A bucket on a scripted origin: what readers need of S3's protocol, which Google's store speaks too.

Law: it answers as a store does, a listing in pages, ranges, If-Match, but for what a test tells it to do otherwise. It
knows nobody: everyone may read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit
from xml.sax.saxutils import escape

from tests.support.origin import Answer, Asked, Origin

_PAGE = 5  # objects; real ones give 1000


class Bucket:
    """Its objects may change while it is read. Requests and answers are the origin's to tell of."""

    def __init__(self, origin: Origin, name: str = "bucket") -> None:
        self.name = name
        self._origin = origin
        self._objects: dict[str, tuple[bytes, str]] = {}
        self.listings = 0
        origin.serve(f"/{name}", self._list)

    def settings(self, scheme: str = "s3") -> str:
        """The lines of a configuration that lead there."""
        return f'[[object_store]]\nmatch = "{scheme}://{self.name}"\nendpoint = "{self._origin.url("")}"\n'

    def target(self, path: str) -> str:
        """What the origin knows an object by."""
        return f"/{self.name}/{quote(path, safe='/~')}"

    def put(self, path: str, data: bytes, *, before: Callable[[], object] = list, **how: Any) -> None:
        """`before`: called before it is answered with. `how`: as in `Answer`."""
        etag = f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'
        self._objects[path] = data, etag

        def answer(asked: Asked) -> Answer:
            before()
            now = self._objects.get(path)
            if now is None:
                return Answer(b"<Error><Code>NoSuchKey</Code></Error>", 404)
            if asked.headers.get("If-Match", now[1]) != now[1]:
                return Answer(b"<Error><Code>PreconditionFailed</Code></Error>", 412)
            return Answer(**{"body": now[0], "etag": now[1], "ranges": True, **how})

        self._origin.serve(self.target(path), answer)

    def put_all(self, directory: str, files: Mapping[str, bytes]) -> None:
        for name, data in files.items():
            self.put(f"{directory}/{name}", data)

    def remove(self, path: str) -> None:
        del self._objects[path]

    def asked(self, path: str) -> list[Asked]:
        return self._origin.asked(self.target(path))

    def _list(self, asked: Asked) -> Answer:
        """ListObjectsV2: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html"""
        self.listings += 1
        asks = {name: values[0] for name, values in parse_qs(urlsplit(asked.target).query).items()}
        paths = sorted(path for path in self._objects if path.startswith(asks.get("prefix", "")))
        start = int(asks.get("continuation-token", "0"))
        contents = "".join(map(self._content, paths[start : start + _PAGE]))
        more = f"<NextContinuationToken>{start + _PAGE}</NextContinuationToken>" if start + _PAGE < len(paths) else ""
        body = (
            f"<ListBucketResult><IsTruncated>{str(bool(more)).lower()}</IsTruncated>{contents}{more}</ListBucketResult>"
        )
        return Answer(body.encode(), headers={"Content-Type": "application/xml"})

    def _content(self, path: str) -> str:
        data, etag = self._objects[path]
        told = f"<Size>{len(data)}</Size><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
        return f"<Contents><Key>{escape(path)}</Key><ETag>{escape(etag)}</ETag>{told}</Contents>"

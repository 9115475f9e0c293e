"""A small store that speaks as much of Google Cloud Storage's XML API as obstore's client and hubd use.

There is no emulator of Google's to run, so this is a server of our own, written from the documentation
(https://cloud.google.com/storage/docs/xml-api/overview): ranges, listings, conditional writes by generation, uploads in
parts. Of who asks it checks that the service account's key signed, by RSA, for this bucket or this URL.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from tests.support.http_server import Handler, HttpServer

_EMAIL = "hubd@project.iam.gserviceaccount.com"
_LISTED_AT_ONCE = 2  # so that every test of a listing sees several pages


@dataclass(frozen=True)
class _Object:
    data: bytes
    generation: int
    modified_at: datetime

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.data, usedforsecurity=False).hexdigest()}"'


@dataclass
class _Bucket:
    objects: dict[str, _Object] = field(default_factory=dict)
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)
    public: bool = False


class GoogleStore(HttpServer):
    """Context manager."""

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.buckets: dict[str, _Bucket] = {}
        self.asked: list[tuple[str, str]] = []
        self.changing = threading.Lock()
        self._generation = 1
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @property
    def key_file(self) -> str:
        """The service account's, as Google's console gives it out, but for endpoints that must not be heeded."""
        pem = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return json.dumps(
            {
                "type": "service_account",
                "client_email": _EMAIL,
                "private_key_id": "1",
                "private_key": pem.decode(),
                "token_uri": "http://127.0.0.1:9/",
                "gcs_base_url": "http://127.0.0.1:9/",
            }
        )

    def settings(self, match: str = "gs://") -> str:
        """The lines of a configuration that lead there."""
        return f'[[object_store]]\nmatch = "{match}"\nendpoint = "{self.endpoint}"\n'

    def make(self, bucket: str, *, public: bool = False) -> None:
        self.buckets[bucket] = _Bucket(public=public)

    def put(self, bucket: str, path: str, data: bytes) -> _Object:
        self._generation += 1
        made = _Object(data, self._generation, datetime.now(UTC).replace(microsecond=0))
        self.buckets[bucket].objects[path] = made
        return made

    def has_signed(self, signature: bytes, text: bytes) -> bool:
        """Whether the service account's key did."""
        try:
            self._key.public_key().verify(signature, text, padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            return False
        return True


class _Handler(Handler):
    owner: GoogleStore

    def _take(self) -> None:
        store, method = self.owner, self.command
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        url = urlsplit(self.path)
        name, _, path = unquote(url.path).lstrip("/").partition("/")
        query = {key: values[0] for key, values in parse_qs(url.query, keep_blank_values=True).items()}
        with store.changing:
            store.asked.append((method, self.path))
            bucket = store.buckets.get(name)
            if bucket is None:
                self._answer(404, b"<Error><Code>NoSuchBucket</Code></Error>")
            elif not self._may(method, bucket, query):
                self._answer(403, b"<Error><Code>AccessDenied</Code></Error>")
            elif not path:
                self._list(bucket, query)
            elif method in ("GET", "HEAD"):
                self._get(bucket.objects.get(path))
            elif method == "DELETE":
                self._answer(204 if bucket.objects.pop(path, None) is not None else 404)
            elif method == "POST":
                self._upload(name, bucket, path, query)
            elif "partNumber" in query:
                bucket.uploads[query["uploadId"]][int(query["partNumber"])] = body
                self._answer(200, headers={"ETag": f'"{query["partNumber"]}"'})
            else:
                self._put(name, path, body, bucket.objects.get(path))

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _take

    def _may(self, method: str, bucket: _Bucket, query: Mapping[str, str]) -> bool:
        if "X-Goog-Signature" in query:
            return self._is_url_signed(method, query)
        kind, _, token = self.headers.get("Authorization", "").partition(" ")
        if kind != "Bearer":
            return bucket.public and method in ("GET", "HEAD")
        text, _, signature = token.rpartition(".")
        claims = json.loads(base64.urlsafe_b64decode(text.partition(".")[2] + "=="))
        return claims["iss"] == _EMAIL and self.owner.has_signed(
            base64.urlsafe_b64decode(signature + "=="), text.encode()
        )

    def _is_url_signed(self, method: str, query: Mapping[str, str]) -> bool:
        """By V4 (https://cloud.google.com/storage/docs/authentication/canonical-requests)."""
        raw, signed = self.path.split("?", 1), []
        for pair in raw[1].split("&"):
            if not pair.startswith("X-Goog-Signature="):
                signed.append(pair)
        host = "storage.googleapis.com"  # obstore signs for this one, whatever the endpoint is
        canonical = "\n".join(
            (method, raw[0], "&".join(sorted(signed)), f"host:{host}", "", "host", "UNSIGNED-PAYLOAD")
        )
        scope = query["X-Goog-Credential"].partition("/")[2]
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = "\n".join(("GOOG4-RSA-SHA256", query["X-Goog-Date"], scope, digest))
        return self.owner.has_signed(bytes.fromhex(query["X-Goog-Signature"]), text.encode())

    def _get(self, found: _Object | None) -> None:
        if found is None:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
            return
        stated = {"ETag": found.etag, "x-goog-generation": str(found.generation)}
        headers = {**stated, "Last-Modified": format_datetime(found.modified_at, usegmt=True), "Accept-Ranges": "bytes"}
        if self.headers.get("If-None-Match") == found.etag:
            self._answer(304, headers=headers)
            return
        asked, condition = self.headers.get("Range"), self.headers.get("If-Range")
        if asked is None or condition not in (None, found.etag):
            self._answer(200, found.data, headers)
            return
        start, _, last = asked.removeprefix("bytes=").partition("-")
        total = len(found.data)
        end = min(int(last) + 1 if last else total, total)
        if int(start) >= total:
            self._answer(416, headers={**headers, "Content-Range": f"bytes */{total}"})
            return
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{total}"
        self._answer(206, found.data[int(start) : end], headers)

    def _put(self, name: str, path: str, body: bytes, before: _Object | None) -> None:
        wanted = self.headers.get("x-goog-if-generation-match")
        if wanted is not None and int(wanted) != (before.generation if before is not None else 0):
            self._answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
            return
        made = self.owner.put(name, path, body)
        self._answer(200, headers={"ETag": made.etag, "x-goog-generation": str(made.generation)})

    def _upload(self, name: str, bucket: _Bucket, path: str, query: Mapping[str, str]) -> None:
        if "uploads" in query:
            upload = str(len(bucket.uploads))
            bucket.uploads[upload] = {}
            self._answer(
                200,
                f"<InitiateMultipartUploadResult><Bucket>{name}</Bucket><Key>{escape(path)}</Key>"
                f"<UploadId>{upload}</UploadId></InitiateMultipartUploadResult>".encode(),
            )
            return
        parts = bucket.uploads.pop(query["uploadId"])
        made = self.owner.put(name, path, b"".join(parts[number] for number in sorted(parts)))
        self._answer(
            200,
            f"<CompleteMultipartUploadResult><ETag>{escape(made.etag)}</ETag></CompleteMultipartUploadResult>".encode(),
            {"x-goog-generation": str(made.generation)},
        )

    def _list(self, bucket: _Bucket, query: Mapping[str, str]) -> None:
        after = query.get("continuation-token", query.get("start-after", ""))
        names = [one for one in sorted(bucket.objects) if one.startswith(query.get("prefix", "")) and one > after]
        listed, is_truncated = names[:_LISTED_AT_ONCE], len(names) > _LISTED_AT_ONCE
        entries = "".join(
            f"<Contents><Key>{escape(one)}</Key><Size>{len(found.data)}</Size><ETag>{escape(found.etag)}</ETag>"
            f"<LastModified>{found.modified_at.isoformat().replace('+00:00', '.000Z')}</LastModified></Contents>"
            for one in listed
            for found in [bucket.objects[one]]
        )
        more = f"<NextContinuationToken>{escape(listed[-1])}</NextContinuationToken>" if is_truncated else ""
        page = f"<IsTruncated>{str(is_truncated).lower()}</IsTruncated>{more}{entries}"
        self._answer(200, f"<ListBucketResult>{page}</ListBucketResult>".encode())

    def _answer(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and status not in (204, 304):
            self.wfile.write(body)

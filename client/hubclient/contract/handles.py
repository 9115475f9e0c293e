"""Handles: the strings that users pass, their canonical form, and the key that the cache files them under."""

from __future__ import annotations

import hashlib
from urllib.parse import quote, unquote, urlsplit

from hubclient.contract.errors import HandleInvalid

FORMAT_PARAMETER = "tf-hub-format"
MAX_HANDLE_LENGTH = 2048
KAGGLE_HOST = "www.kaggle.com"

_DEFAULT_PORTS = {"http": 80, "https": 443}
_HOST_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-._")
_PRINTABLE_ASCII = "".join(map(chr, range(0x21, 0x7F)))
_KAGGLE_SCHEME = "kaggle:"
_KAGGLE_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._")
_MAX_KAGGLE_VERSION_DIGITS = 9
_OBJECT_SCHEMES = ("s3", "gs", "az")
_BUCKET_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._")
_MAX_BUCKET_LENGTH = 222  # Google's, with dots
_AZURE_CONTAINERS = ("$web", "$root")  # the only names of their kind


def is_path(handle: str) -> bool:
    """Whether the client answers this handle by itself: a path or a ``file://`` URL of a module directory."""
    return ("://" not in handle and not is_kaggle(handle)) or handle[:7].lower() == "file://"


def is_kaggle(handle: str) -> bool:
    """Whether the handle names a model of Kaggle's API: ``kaggle:OWNER/MODEL/FRAMEWORK/VARIATION[/VERSION]``."""
    return handle[: len(_KAGGLE_SCHEME)].lower() == _KAGGLE_SCHEME


def is_object(handle: str) -> bool:
    """Whether the handle names what an object store has: ``s3://BUCKET/PATH``, ``gs://BUCKET/PATH`` or
    ``az://CONTAINER/PATH``, an archive or a directory.
    """
    return handle[:2].lower() in _OBJECT_SCHEMES and handle[2:5] == "://"


def object_parts(handle: str) -> tuple[str, str, str]:
    """Scheme, bucket and path of an ``s3://``, ``gs://`` or ``az://`` URL; the path has no slash at its ends, and is
    empty where the URL names a whole bucket.

    The scheme is in lower case and all else is literal: a percent sign stands for itself. Raises `HandleInvalid` for
    a bucket that no store could have, for ``?`` and ``#``, and for empty, ``.`` or ``..`` segments, the latter two
    percent-encoded too.
    """
    scheme, (bucket, slash, path) = handle[:2].lower(), handle[5:].partition("/")
    is_name = _BUCKET_CHARACTERS.issuperset(bucket) and bucket[:1].isalnum() and bucket[-1:].isalnum()
    if not (is_name or (scheme == "az" and bucket in _AZURE_CONTAINERS)) or len(bucket) > _MAX_BUCKET_LENGTH:
        raise HandleInvalid(f"a handle {scheme}://BUCKET/PATH names a bucket, not {bucket[:80]!r}")
    if ".." in bucket:
        raise HandleInvalid("the bucket of the handle has two dots in a row")
    if any(c in "?#\\" or c <= " " or "\x7f" <= c <= "\x9f" or "\ud800" <= c <= "\udfff" for c in path):
        raise HandleInvalid(
            "the path of an object has no '?', '#' or backslash, no space, no control characters, and is UTF-8"
        )
    path = path.removesuffix("/")
    # A credential may be for a part of a bucket, and what stands in front of a store may decode once more.
    climbs = any(segment in (".", "..") for segment in unquote(path).split("/"))
    if slash and path and ("" in path.split("/") or climbs):
        raise HandleInvalid("the path of the handle has an empty, '.' or '..' segment")
    return scheme, bucket, path


def canonical(handle: str) -> str:
    """The one spelling that all spellings of an ``http(s)://``, ``kaggle:`` or object store's handle share.

    Lower-case scheme and host (IDNA), no default port, no fragment, no ``tf-hub-format`` parameter, all else
    untouched; of ``kaggle:`` a lower-case scheme; of an object store's a lower-case scheme and no slash at the end.
    Raises `HandleInvalid` for what is none of these, for user info, and for ``.`` or ``..`` segments, plain or
    percent-encoded.
    """
    if len(handle) > MAX_HANDLE_LENGTH:
        raise HandleInvalid(f"the handle is longer than {MAX_HANDLE_LENGTH} characters")
    if is_kaggle(handle):
        return _KAGGLE_SCHEME + "/".join(_kaggle_parts(handle[len(_KAGGLE_SCHEME) :]))
    if is_object(handle):
        object_scheme, bucket, path = object_parts(handle)
        if not path:
            raise HandleInvalid("the handle names a whole bucket: a module has a path in it")
        return f"{object_scheme}://{bucket}/{path}"
    # A lone surrogate is a byte of the command line that is no UTF-8: it has no encoding, so no key.
    if any(c <= " " or c in "\x7f\\" or "\ud800" <= c <= "\udfff" for c in handle):
        raise HandleInvalid("the handle contains a space, a control character, a backslash or bytes that are no UTF-8")
    try:
        url = urlsplit(handle)
        port = url.port
        host = url.hostname or ""
    except ValueError as error:
        raise HandleInvalid(f"the handle is no URL: {error}") from None
    scheme = url.scheme.lower()
    if scheme not in _DEFAULT_PORTS:
        start = f"{scheme}://" if scheme else repr(handle[:20])
        raise HandleInvalid(f"the handle must start with https://, kaggle:, s3://, gs:// or az://, not with {start}")
    if "@" in url.netloc:
        raise HandleInvalid("the handle contains user info (user:password@): credentials do not belong in a URL")
    if not host:
        raise HandleInvalid("the handle names no host")
    if any(unquote(segment) in (".", "..") for segment in url.path.split("/")):
        raise HandleInvalid("the path of the handle has a '.' or '..' segment")
    netloc = f"[{host}]" if ":" in host else _ascii_host(host)
    if port is not None and port != _DEFAULT_PORTS[scheme]:
        netloc += f":{port}"
    query = "&".join(
        parameter
        for parameter in url.query.split("&")
        if unquote(parameter.partition("=")[0]).lower() != FORMAT_PARAMETER
    )
    return f"{scheme}://{netloc}{url.path}" + (f"?{query}" if query else "")


def key(canonical_handle: str) -> str:
    """The name of a handle in the cache and in the API: hex sha256 of its canonical form."""
    return hashlib.sha256(canonical_handle.encode()).hexdigest()


def spelling_name(spelling: str) -> str:
    """The name that tensorflow_hub looks for in its cache directory: hex sha1 of the handle as it was spelt."""
    return hashlib.sha1(spelling.encode(), usedforsecurity=False).hexdigest()


def is_immutable(canonical_handle: str) -> bool:
    """Whether the handle names a version: its last path segment is a whole number; of ``kaggle:`` there is a fifth."""
    if is_kaggle(canonical_handle):
        return canonical_handle.count("/") == 4  # a variation may be called 2
    last = urlsplit(canonical_handle).path.rpartition("/")[2]
    return last.isascii() and last.isdigit()


def request_url(canonical_handle: str, tf_hub_format: str = "compressed") -> str:
    """The URL to GET for an ``http(s)://`` handle: with ``tf-hub-format=compressed`` (or another one) appended, in
    ASCII.
    """
    separator = "&" if "?" in canonical_handle else "?"
    return quote(canonical_handle, safe=_PRINTABLE_ASCII) + f"{separator}{FORMAT_PARAMETER}={tf_hub_format}"


def host(canonical_handle: str) -> str:
    """The host that the handle names, without the port; of an object its bucket, as in ``s3://bucket``."""
    if is_object(canonical_handle):
        return canonical_handle[: canonical_handle.index("/", 5)]
    return KAGGLE_HOST if is_kaggle(canonical_handle) else urlsplit(canonical_handle).hostname or ""


def _kaggle_parts(path: str) -> list[str]:
    parts = path.split("/")
    version = parts[4] if len(parts) == 5 else "1"
    if (
        len(parts) not in (4, 5)
        or not all(part and _KAGGLE_CHARACTERS.issuperset(part) and part not in (".", "..") for part in parts)
        or not (version.isdigit() and version[0] != "0" and len(version) <= _MAX_KAGGLE_VERSION_DIGITS)
    ):
        raise HandleInvalid("a handle of Kaggle is kaggle:OWNER/MODEL/FRAMEWORK/VARIATION/VERSION")
    return parts


def _ascii_host(name: str) -> str:
    try:
        # Twice: IDNA's mapping can leave dots that only the second look takes for separators.
        ascii_name = name.encode("idna").decode("ascii").lower().encode("idna").decode("ascii")
    except UnicodeError:
        ascii_name = ""
    # It also turns some characters into spaces and punctuation, and lets those of ASCII pass.
    if not ascii_name or not _HOST_CHARACTERS.issuperset(ascii_name):
        raise HandleInvalid(f"the host of the handle is no host name: {name[:80]!r}")
    return ascii_name

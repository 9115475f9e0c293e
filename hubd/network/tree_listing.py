"""The files of a directory of an object store, by what the store lists below its path. Pure.

Law: what leaves here can be laid out as an archive: names are clean and each there once, none is both a file and a
directory, and all together keep to the limits. Nothing was fetched yet.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from hubclient.contract.errors import ArchiveTooLarge, ArchiveUnsafe, NotAModule, UpstreamNotFound
from hubclient.contract.listing import MAX_SEGMENT_BYTES
from hubd.config import LimitSettings
from hubd.failures import Hopeless
from hubd.network.virtual_tar import File
from hubd.objects.urls import ObjectInfo, ObjectUrl

_MODULE_FILES = frozenset({"saved_model.pb", "saved_model.pbtxt", "tfhub_module.pb"})
_UNCLEAN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\\\ud800-\udfff]")
_MOST_SHOWN = 80


def files_of(listed: Iterable[ObjectInfo], directory: ObjectUrl, limits: LimitSettings) -> list[File]:
    """The files below the directory, without markers of directories, as far as the listing tells them.

    Raises `UpstreamNotFound`, `ArchiveUnsafe`, `ArchiveTooLarge`, `NotAModule`.
    """
    prefix = f"{directory.path}/"  # not those of another directory whose name only begins so
    found: dict[str, File] = {}
    for info in listed:
        name = info.path.removeprefix(prefix)
        if not info.path.startswith(prefix) or not name or (name.endswith("/") and not info.size_bytes):
            continue
        _check_name(name, limits)
        if name in found:
            raise ArchiveUnsafe(f"the store lists {_shown(name)} twice")
        found[name] = File(name, info.size_bytes, _etag(info))
    if not found:
        raise UpstreamNotFound(f"there is no directory {directory}, nor an archive of this name")
    directories = _directories(found, limits)
    for name in directories & found.keys():
        # Browsers of buckets make an empty object for a directory; many stores list it without the slash behind it.
        if found.pop(name).size_bytes:
            raise ArchiveUnsafe(f"the store has {_shown(name)} both as a file and as a directory")
    if len(found) + len(directories) > limits.files:
        raise too_many(limits)
    if sum(file.size_bytes for file in found.values()) > limits.module:
        raise ArchiveTooLarge(f"the module is larger than the limit of {limits.module} bytes")
    if _MODULE_FILES.isdisjoint(found):
        raise NotAModule("the directory has no saved_model.pb, saved_model.pbtxt or tfhub_module.pb")
    return list(found.values())


def too_many(limits: LimitSettings) -> ArchiveTooLarge:
    return ArchiveTooLarge(f"the directory holds more than the limit of {limits.files} files and directories")


def _check_name(name: str, limits: LimitSettings) -> None:
    if len(name.encode(errors="replace")) > limits.path:
        raise ArchiveUnsafe(f"the name of {_shown(name)} is longer than the limit of {limits.path} bytes")
    if name.count("/") >= limits.depth:
        raise ArchiveUnsafe(f"{_shown(name)} lies deeper than the limit of {limits.depth} levels")
    if _UNCLEAN.search(name):
        raise ArchiveUnsafe(f"the name of {_shown(name)} has a control character or a backslash")
    for segment in name.split("/"):
        if segment in ("", ".", ".."):
            raise ArchiveUnsafe(f"the name of {_shown(name)} has an empty, '.' or '..' segment")
        if len(segment.encode()) > MAX_SEGMENT_BYTES:
            raise ArchiveUnsafe(f"the name of {_shown(name)} has a segment of over {MAX_SEGMENT_BYTES} bytes")


def _directories(names: Iterable[str], limits: LimitSettings) -> set[str]:
    """Those that the files lie in. Counted as they are found: long names imply far more than there are files."""
    found: set[str] = set()
    for name in names:
        above = name.rpartition("/")[0]
        while above and above not in found:  # what lies above a known one is known
            found.add(above)
            above = above.rpartition("/")[0]
        if len(found) > limits.files:
            raise too_many(limits)
    return found


def _etag(info: ObjectInfo) -> str:
    """As it stands in a header: some stores list it without its quotes."""
    etag = (info.etag or "").strip('"')
    if not etag or not etag.isascii() or not etag.isprintable() or '"' in etag:
        raise Hopeless("the store lists a file without an ETag: nobody could tell whether it is still the same")
    return f'"{etag}"'


def _shown(name: str) -> str:
    text = _UNCLEAN.sub("\N{REPLACEMENT CHARACTER}", name)
    return repr(text if len(text) <= _MOST_SHOWN else text[: _MOST_SHOWN - 3] + "...")

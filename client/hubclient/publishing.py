"""`publish`: from a module to a version that `hubd host`, or any web server, hands out.

Law: a version appears whole, by one rename, and never changes. Whatever ends this early leaves nothing behind but
directories for names that are yet to be taken.

The place of a module is that of `hubd host`: ``<directory>/<publisher>/<model>/<version>.tar.gz``, where publishers may
have groups of models, as in ``acme/vision/encoder/1``.
"""

from __future__ import annotations

import os
import re
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import NamedTuple

from hubclient.atomic import absolute, writing
from hubclient.capi.meta_graph import INIT_OP, TRAIN_OP
from hubclient.contract.common_signatures import (
    IMAGE_CLASSIFICATION,
    IMAGE_EITHER,
    IMAGE_FEATURE_VECTOR,
    common_signature,
)
from hubclient.contract.errors import AccessDenied, HubError, NotFound
from hubclient.contract.saved_model import MetaGraph
from hubclient.local import MODULE_FILES
from hubclient.model_errors import ExportInvalid, PathExists
from hubclient.opening import is_tf1, read_graphs
from hubclient.packing import Progress, pack, source_directory
from hubclient.publications import archives, documents, graphs
from hubclient.publications.findings import Finding

SUFFIX = ".tar.gz"

_SEGMENT = re.compile("[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_VERSION = re.compile("0|[1-9][0-9]{0,17}")
# What `hubd host` takes for unfinished, and the names that are its own.
_UNFINISHED = (".part", ".partial", ".tmp", SUFFIX)
_RESERVED = "api"
_MAX_SEGMENTS = 16


class Name(NamedTuple):
    """Of a version."""

    model: str  #: "publisher/model"
    version: int

    def __str__(self) -> str:
        return f"{self.model}/{self.version}"


class Published(NamedTuple):
    """What `publish` made, or would make."""

    name: Name
    path: str  #: of the archive, in full
    digest: str  #: "sha256:" and the hex digest of the archive, as `hubctl get --digest` takes it
    size_bytes: int  #: of the archive
    content_bytes: int  #: of the files in it
    left_out: tuple[str, ...]  #: what in the directory belongs to no module, and was not packed
    graphs: tuple[MetaGraph, ...]  #: without TensorFlow's own signatures
    findings: tuple[Finding, ...]  #: what whoever publishes should know

    def common_signatures(self) -> dict[str, str]:
        """The common signatures of TensorFlow Hub that it meets, each with the signature that does."""
        met = ((common_signature(name, one), name) for graph in self.graphs for name, one in graph.signatures.items())
        found = {common: name for common, name in reversed(list(met)) if common is not None}
        if IMAGE_FEATURE_VECTOR in found or IMAGE_CLASSIFICATION in found:
            found.pop(IMAGE_EITHER, None)
        return found


def parse_name(text: str) -> Name:
    """The name ``publisher/model/version``; raises `ExportInvalid` for what is none."""
    *segments, version = text.split("/")
    if len(segments) < 2:
        raise ExportInvalid(f"{text!r} is no name for a module: it is publisher/model/version, as in acme/encoder/1")
    if not _VERSION.fullmatch(version):
        raise ExportInvalid(f"the version {version!r} is no whole number without leading zeros, as in {segments[-1]}/1")
    if len(segments) > _MAX_SEGMENTS:
        raise ExportInvalid(f"the name has more than {_MAX_SEGMENTS} parts before its version")
    for segment in segments:
        if not _SEGMENT.fullmatch(segment):
            raise ExportInvalid(
                f"{segment!r} cannot be a part of a module's name: up to 100 letters, digits, '-', '.' and '_' of "
                "ASCII can, with a letter or a digit first"
            )
        if _VERSION.fullmatch(segment):
            raise ExportInvalid(f"{segment!r} is a whole number, which only the version at the end of the name is")
        if segment.endswith(_UNFINISHED):
            raise ExportInvalid(f"{segment!r} ends as files that are being written do: name it otherwise")
    if segments[0] == _RESERVED:
        raise ExportInvalid(f"{_RESERVED!r} cannot be a publisher: it is what programs ask the host")
    return Name("/".join(segments), int(version))


def publish(
    source: str | os.PathLike[str],
    name: str,
    to: str | os.PathLike[str],
    *,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Published:
    """Check the module, pack it, and move it to its place below the directory `to`.

    `source` is the directory of a SavedModel, or an archive of one, which is unpacked and packed anew: what `pack` made
    comes out as the same bytes. `dry_run` does all of it, and takes the archive away again instead of moving it.

    Raises `ExportInvalid` for a name that is none, `PathExists` for a version that is there, `ModuleBroken` for a
    module that nobody could load, `NotFound` for a `to` that is not there, `ArchiveCorrupt`, and what `pack` raises.
    """
    wanted = parse_name(name)
    root = absolute(to)
    if not os.path.isdir(root):
        raise NotFound(f"there is no directory {root} to publish to")
    target = os.path.join(root, *wanted.model.split("/"), f"{wanted.version}{SUFFIX}")
    _check_place(root, wanted)
    given = os.fspath(source)
    with ExitStack() as stack:
        is_archive = os.path.isfile(given)
        staging = stack.enter_context(_staging(root)) if is_archive or dry_run else root
        if is_archive:
            directory = os.path.join(staging, "module")
            os.mkdir(directory)
            archives.unpack(given, directory)
        else:
            directory = source_directory(given)
        try:
            found, findings = _inspect(directory, os.path.dirname(target))
        except HubError:  # some are kinds of OSError
            raise
        except OSError as error:
            raise AccessDenied(f"cannot read {error.filename or directory}: {error.strerror}") from error
        packed = pack(directory, os.path.join(staging, "packed") if dry_run else target, progress=progress)
        if not dry_run:
            _date(target, given if is_archive else directory)
    return Published(wanted, target, *packed[1:], found, (*findings, *_of_versions(target, wanted)))


def _inspect(directory: str, model: str) -> tuple[tuple[MetaGraph, ...], list[Finding]]:
    """The variants, and what there is to say of them. Raises `NotAModule`, `ModuleBroken`."""
    source_directory(directory)
    is_tf1(directory)
    files = set(_files(directory))
    found = read_graphs(directory)
    shown = tuple(
        MetaGraph(graph.tags, {name: one for name, one in graph.signatures.items() if name not in (INIT_OP, TRAIN_OP)})
        for graph in found
    )
    findings = list(documents.findings(directory, files, model))
    if not found:
        findings.append(Finding("text-form", "saved_model.pbtxt is in text form, which only TensorFlow itself reads"))
    elif not any(graph.signatures for graph in shown):
        findings.append(Finding("signatures-missing", "it has no signature: only Python's TensorFlow can use it"))
    if found:
        findings += graphs.findings(directory, [graph.tags for graph in found], files)
    return shown, findings


def _date(target: str, source: str) -> None:
    """Let the archive be as old as what is in it: a host waits with what was just written, lest it be unfinished."""
    with suppress(OSError):  # it is published all the same, and takes a second more to appear
        files = [os.path.join(source, name) for name in _files(source)] or [source]
        newest = min(max(os.stat(file).st_mtime_ns for file in files), time.time_ns())
        os.utime(target, ns=(newest, newest))


def _files(directory: str) -> Iterator[str]:
    for inner, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(inner, name)
            if stat.S_ISREG(os.lstat(path).st_mode):
                yield os.path.relpath(path, directory)


def _check_place(root: str, wanted: Name) -> None:
    """Raise if `hubd host` would not find there what is published, or finds that version already."""
    place = root
    for segment in wanted.model.split("/"):
        place = os.path.join(place, segment)
        if os.path.islink(place):
            raise ExportInvalid(f"{place} is a symbolic link, and a host follows none: put a directory there")
        if any(os.path.exists(os.path.join(place, name)) for name in MODULE_FILES):
            raise ExportInvalid(f"{place} is a module itself, and can hold no others: name this one otherwise")
    for taken in (str(wanted.version), f"{wanted.version}{SUFFIX}"):
        path = os.path.join(place, taken)
        if os.path.lexists(path):
            newest = max(_versions(place), default=wanted.version)
            raise PathExists(
                f"{wanted} is published already, at {path}, and a version never changes: "
                f"publish {wanted.model}/{newest + 1} instead"
            )


def _of_versions(target: str, wanted: Name) -> Iterator[Finding]:
    newest = max(_versions(os.path.dirname(target)), default=wanted.version)
    if newest > wanted.version:
        yield Finding("not-latest", f"version {newest} is there, and stays the latest")


def _versions(directory: str) -> Iterator[int]:
    try:
        names = os.listdir(directory)
    except OSError:  # there are none yet
        return
    for name in names:
        if _VERSION.fullmatch(number := name.removesuffix(SUFFIX)):
            yield int(number)


@contextmanager
def _staging(root: str) -> Iterator[str]:
    """A directory beside what is published, so that a dry run finds out whether there is room; hosts ignore it."""
    with writing(root):
        staging = tempfile.TemporaryDirectory(prefix=".publish-", dir=root, ignore_cleanup_errors=True)
    with staging as path:
        yield path

"""What is to be known of one version: its signatures, files and words, read without TensorFlow.

Law: reading changes nothing and ends. A directory's links are not followed; an archive is read by the reader that
takes nothing from strangers but checked names and bytes, and is never unpacked into the library.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hubclient.contract import saved_model
from hubclient.contract.common_signatures import common_signature
from hubclient.contract.errors import AccessDenied, DiskFull, HubError, NotAModule, NotFound, ShuttingDown
from hubclient.contract.saved_model import MetaGraph, SavedModelError
from hubd.config import LimitSettings
from hubd.publishing.card import Card, card_of
from hubd.publishing.fine_tuning import is_fine_tunable
from hubd.publishing.scanning import MODULE_FILES, README, Version, tree
from hubd.unpacking.gzip_stream import inflate
from hubd.unpacking.names import ArchiveLimits, Namespace
from hubd.unpacking.tar_reader import TarReader

_PIECE_BYTES = 256 * 1024
_MAX_README_BYTES = 512 * 1024
_SAVED_MODEL, _, _TF1 = MODULE_FILES
_LIMITS = LimitSettings()  # a daemon takes no more, unless it is told to
_OVERHEAD_BYTES_PER_FILE = 4096  # of a tar archive, beside the files' bytes
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe must not be waited for


@dataclass(frozen=True)
class Facts:
    version: Version
    meta_graphs: tuple[MetaGraph, ...]  #: empty with only a saved_model.pbtxt
    format: str  #: "saved_model", or "tf1" with a tfhub_module.pb at the root
    files: tuple[tuple[str, int], ...]  #: path and size in bytes, by path
    size_bytes: int  #: of all files
    readme: str | None  #: Markdown, without the fields at its top; the module's own, else the model's
    card: Card
    digest: str | None  #: of the archive, "sha256:" and hex; None: it is not packed yet
    archive_bytes: int | None
    common_signature: str | None  #: one of `contract.common_signatures`
    is_fine_tunable: bool | None  #: None: the module does not tell


@dataclass
class _Found:
    files: list[tuple[str, int]]
    readme: bytes | None = None
    graphs: tuple[MetaGraph, ...] = ()
    is_fine_tunable: bool | None = None
    digest: str | None = None
    archive_bytes: int | None = None


def facts_of(version: Version, is_over: Callable[[], bool] = lambda: False) -> Facts:
    """Read them; blocks, and of an archive reads all of it. When `is_over`, that ends with `ShuttingDown`.

    Raises `NotFound`, `AccessDenied`, `NotAModule`, `DiskFull`, and `ArchiveCorrupt` and its like.
    """
    try:
        found = _of_archive(version.path, is_over) if version.is_archive else _of_directory(version.path)
        readme = found.readme if found.readme is not None else _beside(version.path)
    except SavedModelError as error:
        raise NotAModule(f"{version.path}: its saved_model.pb is damaged: {error}") from None
    except OSError as error:
        raise _told(version.path, error) from error
    names = [path for path, _ in found.files]
    if not any(name in names for name in MODULE_FILES):
        raise NotAModule(f"{version.path} holds no module: there is no {', '.join(MODULE_FILES)} at its root")
    text = readme.decode(errors="replace") if readme is not None else None
    card, body = card_of(text, version.model)
    return Facts(
        version=version,
        meta_graphs=found.graphs,
        format="tf1" if _TF1 in names else "saved_model",
        files=tuple(sorted(found.files)),
        size_bytes=sum(size_bytes for _, size_bytes in found.files),
        readme=body,
        card=card,
        digest=found.digest,
        archive_bytes=found.archive_bytes,
        common_signature=_common(found.graphs),
        is_fine_tunable=found.is_fine_tunable,
    )


def _of_directory(path: str) -> _Found:
    listed = [(name.removeprefix("/"), status) for name, status in tree(path)]
    found = _Found([(name, status.st_size) for name, status in listed if stat.S_ISREG(status.st_mode)])
    found.readme = _start_of(f"{path}/{README}")
    if any(name == _SAVED_MODEL for name, _ in found.files):
        fd = os.open(f"{path}/{_SAVED_MODEL}", _FILE)
        try:
            _read_model(found, fd)
        finally:
            os.close(fd)
    return found


def _of_archive(path: str, is_over: Callable[[], bool]) -> _Found:
    limits = ArchiveLimits(_LIMITS.module, _LIMITS.files, _LIMITS.depth, _LIMITS.path)
    found, names, digest = _Found([]), Namespace(limits), hashlib.sha256()
    with open(os.open(path, _FILE), "rb", buffering=0) as file, tempfile.TemporaryFile() as model:
        before = os.fstat(file.fileno())

        def read() -> bytes:
            if is_over():
                raise ShuttingDown("the host ends")
            piece = file.read(_PIECE_BYTES)
            digest.update(piece)
            return piece

        reader = TarReader(inflate(read, limits.module_bytes + limits.files * _OVERHEAD_BYTES_PER_FILE), limits)
        for member in reader.members():
            (names.add_directory if member.is_directory else names.add_file)(member.path)
            if member.is_directory:
                continue
            found.files.append((member.path, member.size_bytes))
            if member.path == README:
                found.readme = _first(reader.content(), _MAX_README_BYTES)
            elif member.path == _SAVED_MODEL:
                model.writelines(reader.content())
        after = os.fstat(file.fileno())
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise NotFound(f"{path} changed while it was read")
        found.digest, found.archive_bytes = f"sha256:{digest.hexdigest()}", after.st_size
        model.flush()
        if names.has_file(_SAVED_MODEL):
            _read_model(found, model.fileno())
    return found


def _read_model(found: _Found, fd: int) -> None:
    found.graphs, found.is_fine_tunable = tuple(saved_model.read_fd(fd)), is_fine_tunable(fd)


def _first(pieces: Iterable[memoryview], max_bytes: int) -> bytes:
    start = bytearray()
    for piece in pieces:
        start += piece[: max_bytes - len(start)]
    return bytes(start)


def _beside(path: str) -> bytes | None:
    """The README of the model, for versions that have none of their own."""
    return _start_of(f"{os.path.dirname(path)}/{README}")


def _start_of(path: str) -> bytes | None:
    """The first bytes of a file; None for what is none."""
    try:
        fd = os.open(path, _FILE)
    except OSError:  # not there, a link, or not to be read: there is something to tell without it
        return None
    with open(fd, "rb") as file:
        return file.read(_MAX_README_BYTES) if stat.S_ISREG(os.fstat(fd).st_mode) else None


def _common(graphs: tuple[MetaGraph, ...]) -> str | None:
    """The common signature of the module; that of a signature that is named after one comes first."""
    met = [
        (common, name)
        for graph in graphs
        for name, signature in graph.signatures.items()
        if (common := common_signature(name, signature)) is not None
    ]
    return min(met, key=lambda one: (not one[1].startswith("image_"), one))[0] if met else None


def _told(path: str, error: OSError) -> HubError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"the disk became full while {path} was read")
    if error.errno in (errno.EACCES, errno.EPERM):
        return AccessDenied(f"{path} cannot be read: {error.strerror}")
    return NotFound(f"{path} is not there any more: {error.strerror}")

"""From an archive to a directory, so that it is checked and packed as any other module.

Law: what is written lies below the directory, and is a regular file or a directory; all else is refused. The archive
is its publisher's own: no guard stands against its size but that of the disk.
"""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import zlib

from hubclient.atomic import writing
from hubclient.contract.errors import AccessDenied, ArchiveCorrupt
from hubclient.model_errors import ExportInvalid

_PIECE_BYTES = 1024 * 1024


def unpack(archive: str, directory: str) -> None:
    """Unpack a .tar.gz into an empty directory that nobody else writes to.

    Raises `ArchiveCorrupt`, `ExportInvalid` for what no module's archive should hold, `AccessDenied`, `DiskFull`.
    """
    try:
        file = open(archive, "rb")  # noqa: SIM115
    except OSError as error:
        raise AccessDenied(f"cannot read {archive}: {error.strerror}") from error
    with file, gzip.open(file) as compressed, writing(directory):
        try:
            with tarfile.open(fileobj=compressed, mode="r|", bufsize=_PIECE_BYTES) as tar:
                for member in tar:
                    _write(tar, member, directory)
            while compressed.read(_PIECE_BYTES):  # to the end, where gzip's checksum is
                pass
        except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise ArchiveCorrupt(f"{archive} is no .tar.gz, or a damaged one: {error}") from error


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, directory: str) -> None:
    segments = member.name.removeprefix("./").rstrip("/").split("/")
    if segments in ([""], ["."]) and member.isdir():
        return
    if not member.name.isprintable() or any(segment in ("", ".", "..") for segment in segments):
        raise ExportInvalid(f"the archive has a member of the name {member.name!r}, which is no path below the module")
    if not (member.isdir() or (member.isreg() and not member.issparse())):
        raise ExportInvalid(f"{member.name} in the archive is neither a file nor a directory: links are not published")
    path = os.path.join(directory, *segments)
    try:
        if member.isdir():
            os.makedirs(path, exist_ok=True)
            return
        os.makedirs(os.path.dirname(path), exist_ok=True)
        content = tar.extractfile(member)
        assert content is not None  # it is a regular file
        with content, open(path, "xb") as out:
            shutil.copyfileobj(content, out, _PIECE_BYTES)
    except (FileExistsError, NotADirectoryError) as error:
        raise ExportInvalid(f"the archive names {member.name} twice, or as a file and as a directory") from error

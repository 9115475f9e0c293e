"""The archive of a directory that nobody packed: `tarfile` and the child's reader read it, and any part fits."""

from __future__ import annotations

import io
import tarfile
from itertools import pairwise
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from hubd.network.virtual_tar import Extent, File, VirtualTar
from hubd.unpacking.names import ArchiveLimits
from hubd.unpacking.tar_reader import TarReader

LIMITS = ArchiveLimits(module_bytes=1 << 50, files=1000, depth=32, path_bytes=1000)

_segments = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters="/"), min_size=1, max_size=80
).filter(lambda name: name not in (".", "..") and len(name.encode()) <= 255)
_long = st.integers(95, 250).map("n".__mul__)  # about where the name no longer fits a header
names = st.lists(_segments | _long, min_size=1, max_size=3).map("/".join).filter(lambda name: len(name.encode()) < 1000)
contents = st.binary(max_size=1500) | st.sampled_from([bytes(512), bytes(1024), b"x" * 511, b"x" * 513])
directories = st.dictionaries(names, contents, max_size=6)


def virtual(directory: dict[str, bytes]) -> VirtualTar:
    return VirtualTar(File(name, len(data), '"v"') for name, data in directory.items())


def part(tar: VirtualTar, directory: dict[str, bytes], start: int, end: int) -> bytes:
    def bytes_of(piece: bytes | Extent) -> bytes:
        data = piece if isinstance(piece, bytes) else directory[piece.file.name][piece.start : piece.end]
        assert data
        assert isinstance(piece, bytes) or len(data) == piece.size_bytes
        return data

    return b"".join(map(bytes_of, tar.pieces(start, end)))


@settings(max_examples=200, deadline=None)
@given(directory=directories, cuts=st.lists(st.integers(0, 12_000), max_size=8))
def test_every_part_is_that_of_one_archive_which_others_read(directory: dict[str, bytes], cuts: list[int]) -> None:
    tar = virtual(directory)
    whole = part(tar, directory, 0, tar.size_bytes)
    assert len(whole) == tar.size_bytes
    at = [0, *sorted(min(cut, tar.size_bytes) for cut in cuts), tar.size_bytes]
    for start, end in pairwise(at):
        assert part(tar, directory, start, end) == whole[start:end]
    with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
        by_tarfile = {}
        for info in archive:
            assert info.isreg()
            content = archive.extractfile(info)
            assert content is not None
            by_tarfile[info.name] = content.read()
    assert by_tarfile == directory
    pieces = iter([whole])
    reader = TarReader(lambda: next(pieces, b""), LIMITS)
    by_the_child = {member.path: b"".join(reader.content()) for member in reader.members()}
    assert by_the_child == directory


def test_a_file_over_8_gib_has_a_size_that_others_read() -> None:
    tar = VirtualTar([File("big", (8 << 30) + 5, '"v"'), File("z", 1, '"v"')])
    first, extent, last, _, end = tar.pieces(0, tar.size_bytes)
    assert isinstance(first, bytes)
    assert isinstance(last, bytes)
    assert tarfile.TarInfo.frombuf(first, "utf-8", "strict").size == (8 << 30) + 5
    assert extent == Extent(File("big", (8 << 30) + 5, '"v"'), 0, (8 << 30) + 5)
    assert isinstance(end, bytes)
    assert list(tar.pieces(512 + (8 << 30), 512 + (8 << 30) + 2)) == [Extent(tar.files[0], 8 << 30, (8 << 30) + 2)]


class Change(NamedTuple):
    files: list[File]
    origin: str = "s3://bucket/module"


def test_only_the_same_files_of_the_same_place_have_the_same_etag() -> None:
    a, b = File("a", 1, '"1"'), File("b", 2, '"2"')
    whole = Change([a, b])
    changes = [
        Change([a]),
        Change([a, b._replace(name="c")]),
        Change([a, b._replace(size_bytes=3)]),
        Change([a, b._replace(etag='"3"')]),
        Change([a, b], "s3://bucket/other"),
        Change([a, b, File("c", 0, '"0"')]),
    ]
    etags = {VirtualTar(*change).etag for change in [whole, *changes]}
    assert len(etags) == 1 + len(changes)
    assert VirtualTar([b, a], whole.origin).etag == VirtualTar(*whole).etag

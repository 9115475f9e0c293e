"""The tar reader: it agrees with `tarfile` on what is plain, and refuses what is not."""

from __future__ import annotations

import io
import random
import tarfile
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubclient.contract.errors import ArchiveCorrupt, ArchiveTooLarge, ArchiveUnsafe, HubError
from hubd.unpacking.gzip_stream import ReadPiece
from hubd.unpacking.names import ArchiveLimits
from hubd.unpacking.tar_reader import TarReader
from tests.support.archives import END, directory, extended, file, header, octal, padded, pax, with_checksum

LIMITS = ArchiveLimits(module_bytes=1_000_000, files=1000, depth=32, path_bytes=1000)

Found = list[tuple[str, bytes | None]]  # path and content; None for a directory


def source(data: bytes, step: int) -> ReadPiece:
    pieces: Iterator[bytes] = iter([data[at : at + step] for at in range(0, len(data), step)])
    return lambda: next(pieces, b"")


def read(data: bytes, step: int = 1000, limits: ArchiveLimits = LIMITS) -> Found:
    reader = TarReader(source(data, step), limits)
    return [(member.path, None if member.is_directory else b"".join(reader.content())) for member in reader.members()]


def read_by_tarfile(data: bytes) -> Found:
    found: Found = []
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for info in archive:
            assert info.isfile() or info.isdir()
            content = archive.extractfile(info)
            found.append((info.name.removeprefix("./").rstrip("/"), content.read() if content else None))
    return found


segments = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters="/"), min_size=1)
paths = st.lists(segments.filter(lambda name: name not in (".", "..") and len(name.encode()) <= 255), min_size=1).map(
    "/".join
)
contents = st.one_of(st.none(), st.binary(max_size=2000), st.sampled_from([bytes(512), bytes(1024), b"x" * 513]))
formats = st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])


@settings(max_examples=200, deadline=None)
@given(
    members=st.dictionaries(paths, contents, max_size=6), kind=formats, dotted=st.booleans(), step=st.integers(1, 3000)
)
def test_it_reads_what_tarfile_writes(members: dict[str, bytes | None], kind: int, dotted: bool, step: int) -> None:
    buffer = io.BytesIO()
    written: Found = []
    with tarfile.open(fileobj=buffer, mode="w", format=kind) as archive:
        for path, data in members.items():
            info = tarfile.TarInfo("./" + path if dotted else path)
            info.mtime = 1234567890.5 if kind == tarfile.PAX_FORMAT else 1
            info.type = tarfile.DIRTYPE if data is None else tarfile.REGTYPE
            info.size = len(data or b"")
            try:
                archive.addfile(info, io.BytesIO(data or b""))
            except ValueError:
                continue  # too long a name for ustar
            written.append((path, data))
    fits = all(len(path.encode()) + 2 <= LIMITS.path_bytes and path.count("/") < LIMITS.depth for path, _ in written)
    if fits:
        assert read(buffer.getvalue(), step) == written == read_by_tarfile(buffer.getvalue())
    else:
        with pytest.raises(ArchiveUnsafe, match="limit"):
            read(buffer.getvalue(), step)


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32), repaired=st.booleans())
def test_a_damaged_archive_gives_members_or_an_error_of_ours(seed: int, repaired: bool) -> None:
    chance = random.Random(seed)
    data = bytearray(pax(path="a/" * 20 + "b", mtime="1.5") + file("x", b"data") + directory("d/"))
    data += extended(b"L", b"long/" * 30 + b"name\0") + file("y", b"z" * 700) + END
    for _ in range(chance.randrange(1, 5)):
        data[chance.randrange(len(data))] = chance.choice([0, 32, 47, 48, 55, 128, 255, chance.randrange(256)])
    if repaired:  # so that the damage gets past the checksums
        for at in range(0, len(data), 512):
            if data[at + 257 : at + 262] == b"ustar":
                data[at : at + 512] = with_checksum(bytes(data[at : at + 512]))
    try:
        found = read(bytes(data), chance.randrange(1, 2000))
    except HubError:
        return
    for path, _ in found:
        assert not path.startswith("/")
        assert ".." not in path.split("/")


def test_numbers_are_read_in_every_form() -> None:
    base_256 = b"\x80" + (5).to_bytes(11, "big")
    for field in (b"00000000005\0", b"          5 ", b"5", b"5\0", b"0000000005 \0", base_256):
        assert read(header("a", size_field=field) + padded(b"12345") + END) == [("a", b"12345")]
    assert read(header("a", size_field=b"") + END) == [("a", b"")]


@pytest.mark.parametrize("field", [b"-1", b"0x5", b"5_0", b"9", b"5 5", b"+5", b"\xff" * 12, "\u0665".encode()])
def test_what_is_no_number_is_refused(field: bytes) -> None:
    with pytest.raises(ArchiveCorrupt, match="size"):
        read(header("a", size_field=field) + padded(b"12345") + END)


def test_a_huge_size_is_refused_before_its_bytes_come() -> None:
    for field in (b"\x80" + b"\x7f" * 11, b"77777777777"):
        with pytest.raises(ArchiveTooLarge, match="1000000 bytes"):
            read(header("a", size_field=field) + END)
    with pytest.raises(ArchiveTooLarge):
        read(pax(size="9" * 20) + header("a") + END)


def test_the_size_in_a_pax_header_counts() -> None:
    assert read(pax(size="5") + header("a", 0) + padded(b"12345") + file("b") + END) == [("a", b"12345"), ("b", b"")]


def test_the_path_in_a_pax_header_counts_and_other_keywords_do_not() -> None:
    records = pax(
        path="real/näme", mtime="1.5", uname="x", SCHILY__xattr__user__a=b"\xff\0\n", LIBARCHIVE__creationtime="1"
    )
    assert read(records + file("short", b"1") + END) == [("real/näme", b"1")]


def test_global_headers_are_read_past() -> None:
    comment = extended(b"g", b"52 comment=0123456789012345678901234567890123456789\n")
    assert read(comment + file("a", b"1") + comment + file("b", b"2") + END) == [("a", b"1"), ("b", b"2")]


def test_the_prefix_of_ustar_counts_and_that_of_gnu_does_not() -> None:
    assert read(header("b", prefix=b"a") + END) == [("a/b", b"")]
    assert read(header("b", prefix=b"12345", magic=b"ustar  \0") + END) == [("b", b"")]


def test_archives_from_before_ustar_are_read() -> None:
    old = bytes(8)
    data = header("d/", kind=b"\0", magic=old) + header("d/f", 3, b"\0", magic=old) + padded(b"abc") + END
    assert read(data) == [("d", None), ("d/f", b"abc")]


@pytest.mark.parametrize("name", ["d", "d/", "./d", "./d/"])
def test_directories_are_read_in_every_form(name: str) -> None:
    assert read(directory(name) + END) == [("d", None)]


@pytest.mark.parametrize("name", [".", "./"])
def test_the_root_may_have_an_entry(name: str) -> None:
    assert read(directory(name) + END) == [("", None)]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"5 a=1\n", id="wrong length"),
        pytest.param(b"0 a=1\n", id="length 0"),
        pytest.param(b"7 a=1", id="no newline"),
        pytest.param(b"99 a=1\n", id="longer than the header"),
        pytest.param(b"6 a1\n\n", id="no equals sign"),
        pytest.param(b"x a=1\n", id="no length"),
        pytest.param(b"-6 a=1\n", id="negative length"),
        pytest.param(b"8 size=\n", id="no size"),
        pytest.param(b"10 size=-1\n"[:11], id="negative size"),
        pytest.param(b"9999999999999999999999", id="only digits"),
    ],
)
def test_a_damaged_pax_header_is_refused(data: bytes) -> None:
    with pytest.raises(ArchiveCorrupt, match="pax header"):
        read(extended(b"x", data) + file("a") + END)


def test_an_extended_header_is_bounded() -> None:
    for kind in (b"x", b"g", b"L"):
        with pytest.raises(ArchiveUnsafe, match="65536"):
            read(header("p", kind=kind, size_field=octal(300 * 1024 * 1024, 12)) + END)


@pytest.mark.parametrize("cut", [1, 511, 512, 513, 1000, 1024, 1535])
def test_a_cut_is_found(cut: int) -> None:
    data = file("a", b"x" * 600)
    with pytest.raises(ArchiveCorrupt, match="cut off"):
        read(data[:cut])


def test_an_archive_without_an_end_mark_is_cut_off() -> None:
    with pytest.raises(ArchiveCorrupt, match="end-of-archive"):
        read(file("a", b"x"))


def test_zeros_to_any_length_may_follow_the_end_and_nothing_else() -> None:
    assert read(file("a") + bytes(512)) == [("a", b"")]
    assert read(file("a") + bytes(10_240), step=700) == [("a", b"")]
    for rest in (file("b"), b"x", bytes(5000) + b"x"):
        with pytest.raises(ArchiveCorrupt, match="goes on"):
            read(file("a") + END + rest)


def test_a_wrong_checksum_is_refused() -> None:
    data = bytearray(file("a", b"x"))
    data[0] ^= 1
    with pytest.raises(ArchiveCorrupt, match="no tar archive"):
        read(bytes(data) + END)


def test_what_the_caller_does_not_read_is_skipped() -> None:
    data = file("a", b"x" * 2000) + file("b", b"y") + END
    assert [member.path for member in TarReader(source(data, 100), LIMITS).members()] == ["a", "b"]

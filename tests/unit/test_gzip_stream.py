"""The gzip reader: whole and right, or refused; and never more than a bounded piece at a time."""

from __future__ import annotations

import gzip
import random
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubclient.contract.errors import ArchiveCorrupt, ArchiveTooLarge
from hubd.unpacking.gzip_stream import PIECE_BYTES, ReadPiece, inflate

TEXT = b"".join(b"%d little weights\n" % number for number in range(300))
PACKED = gzip.compress(TEXT, mtime=0)


def source(data: bytes, step: int = 100) -> ReadPiece:
    pieces: Iterator[bytes] = iter([data[at : at + step] for at in range(0, len(data), step)])
    return lambda: next(pieces, b"")


def everything(data: bytes, step: int = 100, max_bytes: int = 10_000_000) -> bytes:
    read = inflate(source(data, step), max_bytes)
    return b"".join(iter(read, b""))


def deflated(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


def trailer(data: bytes) -> bytes:
    return struct.pack("<II", zlib.crc32(data), len(data))


@pytest.mark.parametrize("step", [1, 2, 3, 7, 100, 10_000])
def test_members_follow_one_another_however_the_bytes_arrive(step: int) -> None:
    assert everything(PACKED + gzip.compress(b"") + gzip.compress(b"more"), step) == TEXT + b"more"


@settings(max_examples=50, deadline=None)
@given(parts=st.lists(st.binary(max_size=3000), min_size=1, max_size=5), step=st.integers(1, 2000))
def test_any_members_inflate_to_what_was_packed(parts: list[bytes], step: int) -> None:
    # The mark before them: what starts like gzip again is inflated twice.
    assert everything(gzip.compress(b"T") + b"".join(map(gzip.compress, parts)), step) == b"T" + b"".join(parts)


@pytest.mark.parametrize("flags", range(0x20))
@pytest.mark.parametrize("step", [1, 5, 17, 10_000])
def test_all_header_fields_are_read_however_they_arrive(step: int, flags: int) -> None:
    head = b"\x1f\x8b\x08" + bytes([flags]) + bytes(6)
    head += b"\x05\x00extra" if flags & 4 else b""
    head += b"a name\0" if flags & 8 else b""
    head += b"a comment" * 50 + b"\0" if flags & 16 else b""
    checksum = struct.pack("<H", zlib.crc32(head) & 0xFFFF) if flags & 2 else b""
    packed = head + checksum + deflated(TEXT) + trailer(TEXT)
    assert gzip.decompress(packed) == TEXT
    assert everything(packed + packed, step) == TEXT + TEXT
    if checksum:
        with pytest.raises(ArchiveCorrupt, match="header is damaged"):
            everything(packed[: len(head)] + b"??" + packed[len(head) + 2 :], step)


@pytest.mark.parametrize("step", [1000, 1_000_000])
def test_a_name_in_the_header_is_bounded(step: int) -> None:
    with pytest.raises(ArchiveCorrupt, match="longer than 65536 bytes"):
        everything(b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * 1_000_000, step)


def test_every_cut_is_found() -> None:
    for length in range(1, len(PACKED)):
        with pytest.raises(ArchiveCorrupt):
            everything(PACKED[:length])


def test_every_flipped_bit_that_matters_is_found() -> None:
    free_flag = (3, 0)  # "probably text"
    without_meaning = {*range(4, 10), len(PACKED) - 9}  # time and system; the bits that fill up the last data byte
    for position in range(len(PACKED)):
        for bit in range(8):
            damaged = bytearray(PACKED)
            damaged[position] ^= 1 << bit
            if position in without_meaning or (position, bit) == free_flag:
                with suppress(ArchiveCorrupt):
                    assert everything(bytes(damaged), 10_000) == TEXT
                continue
            with pytest.raises(ArchiveCorrupt):
                everything(bytes(damaged), 10_000)


@pytest.mark.parametrize("position", range(1, 9))
def test_the_trailer_of_every_member_is_checked(position: int) -> None:
    damaged = bytearray(PACKED)
    damaged[-position] ^= 0x10
    with pytest.raises(ArchiveCorrupt):
        everything(bytes(damaged) + gzip.compress(b"more"))
    with pytest.raises(ArchiveCorrupt):
        everything(gzip.compress(b"before") + bytes(damaged))


@pytest.mark.parametrize("padding", [1, 3, 511, 100_000])
def test_zeros_behind_the_last_member_are_no_fault(padding: int) -> None:
    assert everything(PACKED + bytes(padding)) == TEXT


@pytest.mark.parametrize(
    "garbage",
    [b"x", b"\0" * 1000 + b"x", bytes(10) + PACKED, b"\x1f", b"\x1f\x8b", b"\x1f\x8b\x08\0", b"\x1f\x8b\x07\0" * 9],
)
def test_anything_else_behind_the_last_member_is_refused(garbage: bytes) -> None:
    with pytest.raises(ArchiveCorrupt):
        everything(PACKED + garbage)


@pytest.mark.parametrize("step", [1, 100, 10_000])
def test_an_archive_that_was_gzipped_twice_unpacks(step: int) -> None:
    assert everything(gzip.compress(PACKED), step) == TEXT


def test_there_are_two_layers_at_most() -> None:
    assert everything(gzip.compress(gzip.compress(PACKED))) == PACKED


def test_the_inner_layer_is_checked_as_the_outer_is() -> None:
    with pytest.raises(ArchiveCorrupt, match="cut off"):
        everything(gzip.compress(PACKED[:-3]))
    with pytest.raises(ArchiveCorrupt, match="do not belong"):
        everything(gzip.compress(PACKED + b"x"))
    with pytest.raises(ArchiveCorrupt):
        everything(gzip.compress(PACKED) + b"x")


@pytest.mark.parametrize(
    ("answer", "guess"),
    [
        (b"<!DOCTYPE html><p>secret", "it looks like HTML"),
        (b"\xef\xbb\xbf \n<html>secret", "it looks like HTML"),
        (b'<?xml version="1.0"?>secret', "it looks like XML"),
        (b'{"error": "secret"}', "it looks like JSON"),
        (b"PK\x03\x04secret", "it looks like a zip archive"),
        (b"version https://git-lfs.github.com/spec/v1 secret", "it looks like a Git LFS pointer"),
        (b"saved_model.pb".ljust(257, b"\0") + b"ustar\x0000secret" + bytes(300), "an uncompressed tar archive"),
        (b"secret", "the answer is no gzip archive"),
        (b"", "the answer is empty"),
    ],
)
def test_what_is_no_gzip_is_named_and_not_repeated(answer: bytes, guess: str) -> None:
    with pytest.raises(ArchiveCorrupt) as caught:
        everything(answer)
    assert guess in caught.value.detail
    assert "secret" not in caught.value.detail


def test_reserved_header_flags_are_refused() -> None:
    with pytest.raises(ArchiveCorrupt, match="header is damaged"):
        everything(PACKED[:3] + b"\x20" + PACKED[4:])


def test_no_piece_is_larger_than_promised_however_much_a_byte_stands_for() -> None:
    bomb = gzip.compress(bytes(20_000_000), mtime=0)
    assert len(bomb) < 20_000
    read = inflate(source(bomb, len(bomb)), 30_000_000)
    sizes = [len(piece) for piece in iter(read, b"")]
    assert sum(sizes) == 20_000_000
    assert max(sizes) <= PIECE_BYTES


@pytest.mark.parametrize("layers", [1, 2])
def test_a_bomb_ends_at_the_limit(layers: int) -> None:
    bomb = gzip.compress(bytes(20_000_000), mtime=0)
    if layers == 2:
        bomb = gzip.compress(bomb, mtime=0)
    read = inflate(source(bomb, 1000), 5_000_000)
    inflated = 0

    def drain() -> None:
        nonlocal inflated
        for piece in iter(read, b""):
            inflated += len(piece)

    with pytest.raises(ArchiveTooLarge, match="5000000"):
        drain()
    assert inflated <= 5_000_000


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), changes=st.integers(1, 20))
def test_damage_ends_in_an_error_of_ours_or_in_the_right_bytes(seed: int, changes: int) -> None:
    damaged = bytearray(PACKED)
    chance = random.Random(seed)
    for position in positions(chance, changes, len(damaged)):
        damaged[position] = chance.randrange(256)
    with suppress(ArchiveCorrupt, ArchiveTooLarge):
        assert everything(bytes(damaged), 10_000) == TEXT


def positions(chance: random.Random, count: int, length: int) -> Iterable[int]:
    return (chance.randrange(length) for _ in range(count))

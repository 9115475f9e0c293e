"""What an origin says of an archive's digest is compared with what arrived, if it can be understood."""

from __future__ import annotations

import base64
import hashlib
import json

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from hubclient.contract.errors import ArchiveCorrupt
from hubd.network.digests import Checker, Expected

BODY = b"an archive" * 1000
SHA256 = hashlib.sha256(BODY).hexdigest()


def b64(algorithm: str, body: bytes = BODY) -> str:
    value = (
        google_crc32c.value(body).to_bytes(4, "big") if algorithm == "crc32c" else hashlib.new(algorithm, body).digest()
    )
    return base64.b64encode(value).decode()


def stated(*headers: tuple[str, str], is_whole: bool = True) -> dict[str, str]:
    """What is expected after these headers: header and algorithm, and the value in base64."""
    expected = Expected.stated(CIMultiDict(headers), is_whole=is_whole)
    return {f"{header} {algorithm}": base64.b64encode(value).decode() for header, algorithm, value in expected.digests}


def check(*headers: tuple[str, str], body: bytes = BODY) -> str:
    checker = Checker(Expected.stated(CIMultiDict(headers), is_whole=True))
    for start in range(0, len(body), 777):
        checker.update(body[start : start + 777])
    return checker.finish()


HEADERS = [
    ("x-goog-hash", f"md5={b64('md5')}"),
    ("x-goog-hash", f"crc32c={b64('crc32c')}"),
    ("Repr-Digest", f"sha-256=:{b64('sha256')}:"),
    ("Repr-Digest", f"sha-512=:{b64('sha512')}:"),
    ("Repr-Digest", f"md5=:{b64('md5')}:"),
    ("Content-Digest", f"sha=:{b64('sha1')}:"),
    ("Content-MD5", b64("md5")),
]


@pytest.mark.parametrize(("header", "value"), HEADERS)
def test_a_right_digest_passes_and_one_changed_bit_does_not(header: str, value: str) -> None:
    assert check((header, value)) == SHA256
    with pytest.raises(ArchiveCorrupt, match=header) as caught:
        check((header, value), body=BODY[:-1] + b"E")
    assert caught.value.retryable


def test_the_crc32c_is_that_of_the_published_check_value() -> None:
    # https://reveng.sourceforge.io/crc-catalogue/: CRC-32/ISCSI of "123456789"
    value = base64.b64encode(bytes.fromhex("e3069283")).decode()
    assert check(("x-goog-hash", f"crc32c={value}"), body=b"123456789")


def test_without_digests_the_sha256_is_told() -> None:
    assert check() == SHA256


def test_all_of_several_must_hold() -> None:
    wrong = ("x-goog-hash", f"md5={b64('md5', b'other')}")
    assert check(*HEADERS) == SHA256
    with pytest.raises(ArchiveCorrupt, match="md5"):
        check(*HEADERS, wrong)


@pytest.mark.parametrize(
    "headers",
    [
        [("x-goog-hash", f"crc32c={b64('crc32c')},md5={b64('md5')}")],
        [("x-goog-hash", f"md5={b64('md5')} , crc32c={b64('crc32c')}")],
        [("X-Goog-Hash", f"crc32c={b64('crc32c')}"), ("x-goog-hash", f"md5={b64('md5')}")],
    ],
)
def test_hashes_of_google_come_in_one_header_or_in_several(headers: list[tuple[str, str]]) -> None:
    assert stated(*headers) == {"x-goog-hash crc32c": b64("crc32c"), "x-goog-hash md5": b64("md5")}


@pytest.mark.parametrize(
    "field",
    [
        f"sha-256=:{b64('sha256')}:",
        f"unixsum=:AAAA:, sha-256=:{b64('sha256')}:",
        f'id-crc32=:AAAA:;q=1;w="a, \\"b", sha-256=:{b64("sha256")}:, future=?1, x=token/1, y=-1.5, z',
        f"sha-256=:AAAA:,\tsha-256=:{b64('sha256')}:",
    ],
)
def test_of_a_dictionary_the_known_digests_count(field: str) -> None:
    assert stated(("Repr-Digest", field)) == {"Repr-Digest sha256": b64("sha256")}


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Repr-Digest", b64("sha256")),
        ("Repr-Digest", f"sha-256={b64('sha256')}"),  # of the obsolete Digest header (RFC 3230)
        ("Repr-Digest", f"SHA-256=:{b64('sha256')}:"),
        ("Repr-Digest", f"sha-256=:{b64('sha256')}"),
        ("Repr-Digest", f"sha-256=:{b64('sha256')}:,"),
        ("Repr-Digest", f"sha-256=:{b64('sha256')}: junk"),
        ("Repr-Digest", f"sha-256=:{b64('sha256')}:, ="),
        ("Repr-Digest", f"sha-256=(:{b64('sha256')}:)"),
        ("Repr-Digest", f"sha-256=:{b64('md5')}:"),
        ("Repr-Digest", f"sha-384=:{b64('sha384')}:"),
        ("Repr-Digest", "sha-256=::"),
        ("Repr-Digest", "sha-256=:\xe9:"),
        ("Content-MD5", hashlib.md5(BODY).hexdigest()),
        ("Content-MD5", ""),
        ("x-goog-hash", "md5"),
        ("x-goog-hash", "crc32c=!!!!"),
        ("x-goog-hash", f"sha1={b64('sha1')}"),
    ],
)
def test_what_cannot_be_understood_counts_as_not_sent(header: str, value: str) -> None:
    assert stated((header, value)) == {}
    assert check((header, value)) == SHA256


def test_of_a_part_only_what_covers_the_whole_counts() -> None:
    found = stated(*HEADERS, is_whole=False)
    assert {name.split()[0] for name in found} == {"x-goog-hash", "Repr-Digest"}


@pytest.mark.parametrize(
    ("stored", "sent", "holds"),
    [
        (None, None, True),
        ("identity", None, True),
        ("gzip", "gzip", True),
        ("gzip", None, False),  # decompressed on its way
        ("identity", "gzip", False),  # compressed on its way
    ],
)
def test_googles_hash_holds_for_the_object_as_it_is_stored(stored: str | None, sent: str | None, holds: bool) -> None:
    codings = {"x-goog-stored-content-encoding": stored, "Content-Encoding": sent}
    headers = [(name, value) for name, value in codings.items() if value is not None]
    assert bool(stated(("x-goog-hash", f"md5={b64('md5')}"), *headers)) is holds


@given(st.sampled_from([header for header, _ in HEADERS]), st.text(max_size=200))
def test_no_header_can_make_the_reader_fail(header: str, value: str) -> None:
    Expected.stated(CIMultiDict([(header, value)]), is_whole=True)


@given(
    st.dictionaries(
        st.sampled_from(["a", "b*", "sha-256", "md5"]), st.text(st.characters(max_codepoint=126), max_size=9)
    )
)
def test_strings_in_a_dictionary_hide_nothing(members: dict[str, str]) -> None:
    printable = {name: "".join(c for c in text if c.isprintable() and c.isascii()) for name, text in members.items()}
    field = ", ".join(
        [*(f"{name}={json.dumps(text)}" for name, text in printable.items()), f"sha-512=:{b64('sha512')}:"]
    )
    assert stated(("Repr-Digest", field)) == {"Repr-Digest sha512": b64("sha512")}

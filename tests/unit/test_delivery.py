"""What of an archive answers a request: conditions and ranges (RFC 9110, sections 13 and 14)."""

from __future__ import annotations

import pytest

from hubd.publishing.delivery import Representation, Selected, decide

FOUND = Representation("ab" * 32, 1000, 1_700_000_000.5)
ETAG = f'"sha256-{"ab" * 32}"'
WHOLE = Selected(200, 0, 1000)
MODIFIED = "Tue, 14 Nov 2023 22:13:20 GMT"
BEFORE = "Tue, 14 Nov 2023 22:13:19 GMT"


def test_an_answer_names_its_content() -> None:
    assert FOUND.headers() == {
        "ETag": ETAG,
        "Last-Modified": MODIFIED,
        "Repr-Digest": "sha-256=:q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=:",
        "Accept-Ranges": "bytes",
    }


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, WHOLE),
        ({"If-None-Match": ETAG}, Selected(304)),
        ({"If-None-Match": f'"a", W/{ETAG}'}, Selected(304)),
        ({"If-None-Match": "*"}, Selected(304)),
        ({"If-None-Match": '"other"'}, WHOLE),
        ({"If-None-Match": ETAG.strip('"')}, WHOLE),
        ({"If-None-Match": '"other"', "If-Modified-Since": MODIFIED}, WHOLE),
        ({"If-Modified-Since": MODIFIED}, Selected(304)),
        ({"If-Modified-Since": BEFORE}, WHOLE),
        ({"If-Modified-Since": "yesterday"}, WHOLE),
        ({"If-Match": ETAG}, WHOLE),
        ({"If-Match": f"W/{ETAG}"}, Selected(412)),
        ({"If-Match": '"other"', "If-None-Match": ETAG}, Selected(412)),
        ({"If-Unmodified-Since": BEFORE}, Selected(412)),
        ({"If-Unmodified-Since": MODIFIED}, WHOLE),
    ],
)
def test_conditions_are_heeded(asked: dict[str, str], expected: Selected) -> None:
    assert decide(asked, FOUND) == expected


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ("bytes=0-", Selected(206, 0, 1000)),
        ("bytes=0-0", Selected(206, 0, 1)),
        ("BYTES=10-19", Selected(206, 10, 20)),
        ("bytes=990-5000", Selected(206, 990, 1000)),
        ("bytes=-10", Selected(206, 990, 1000)),
        ("bytes=-5000", Selected(206, 0, 1000)),
        ("bytes=-0", Selected(416)),
        ("bytes=1000-", Selected(416)),
        ("bytes=9999999999999999999-", Selected(416)),
        # What is no single range is as good as none.
        ("bytes=0-1,5-6", WHOLE),
        ("bytes=5-4", WHOLE),
        ("bytes=-", WHOLE),
        ("bytes=a-b", WHOLE),
        ("bytes=99999999999999999999-", WHOLE),
        ("items=0-1", WHOLE),
        ("", WHOLE),
    ],
)
def test_one_range_is_a_part(stated: str, expected: Selected) -> None:
    assert decide({"Range": stated}, FOUND) == expected


@pytest.mark.parametrize(
    ("condition", "is_part"),
    [(ETAG, True), (MODIFIED, True), (f"W/{ETAG}", False), ('"other"', False), (BEFORE, False), ("nonsense", False)],
)
def test_a_part_is_of_the_version_that_is_meant(condition: str, is_part: bool) -> None:
    assert (decide({"Range": "bytes=1-2", "If-Range": condition}, FOUND).status == 206) is is_part


def test_conditions_come_before_ranges() -> None:
    assert decide({"Range": "bytes=1-2", "If-None-Match": ETAG}, FOUND) == Selected(304)

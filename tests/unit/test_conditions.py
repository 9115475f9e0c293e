"""What is put together from two answers is one version of the archive."""

from __future__ import annotations

import pytest

from hubd.network.conditions import ContentRange, RangeRefused, Resume, Validators, strong

MODIFIED, A_SECOND_LATER = "Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 07:28:01 GMT"


@pytest.mark.parametrize(
    ("headers", "is_strong"),
    [
        ({"ETag": '"a"'}, True),
        ({"ETag": '""'}, True),
        ({"ETag": '"'}, False),
        ({"ETag": "a"}, False),
        ({"ETag": 'W/"a"'}, False),
        ({}, False),
        ({"ETag": '"a"', "Accept-Ranges": "bytes"}, True),
        ({"ETag": '"a"', "Accept-Ranges": "None"}, False),
        ({"Last-Modified": MODIFIED, "Date": A_SECOND_LATER}, True),
        ({"Last-Modified": MODIFIED, "Date": MODIFIED}, False),
        ({"Last-Modified": A_SECOND_LATER, "Date": MODIFIED}, False),
        ({"Last-Modified": MODIFIED}, False),
        ({"Last-Modified": "long ago", "Date": A_SECOND_LATER}, False),
        ({"Last-Modified": MODIFIED[:-4], "Date": A_SECOND_LATER}, False),
        ({"Last-Modified": MODIFIED, "Date": "Wed, 99 Oct 99999999999 07:28:01 GMT"}, False),
        ({"ETag": 'W/"a"', "Last-Modified": MODIFIED, "Date": A_SECOND_LATER}, False),
    ],
)
def test_only_strong_validators_may_stand_in_if_range(headers: dict[str, str], is_strong: bool) -> None:
    stated = Validators.stated(headers)
    assert strong(stated, headers) == (stated if is_strong else None)


@pytest.mark.parametrize(
    ("value", "parsed"),
    [
        ("bytes 5-9/10", (5, 10, 10)),
        ("Bytes 5-9/*", (5, 10, None)),
        ("bytes 5-9/9", None),
        ("bytes 5-4/10", None),
        ("bytes */10", None),
        ("bytes=5-9/10", None),
        ("bytes 5-9", None),
        ("bytes 5-9/10, 11-12/20", None),
        ("bytes \u0665-9/10", None),
        ("bytes 5-" + "9" * 5000 + "/*", None),
        ("pages 5-9/10", None),
        ("", None),
        (None, None),
    ],
)
def test_what_is_no_range_of_bytes_is_none(value: str | None, parsed: tuple[int, int, int | None] | None) -> None:
    assert ContentRange.parse(value) == parsed


@pytest.mark.parametrize(
    ("known", "total_bytes", "content_range", "stated", "total"),
    [
        (Validators('"a"'), 10, (5, 10, 10), Validators('"a"'), 10),
        (Validators('"a"'), 10, (5, 7, 10), Validators('"a"'), 10),
        (Validators('"a"'), None, (5, 10, 10), Validators('"a"'), 10),
        (Validators('"a"'), None, (5, 10, None), Validators('"a"'), None),
        (Validators('"a"', MODIFIED), 10, (5, 10, 10), Validators('"a"'), 10),
        (Validators(None, MODIFIED), 10, (5, 10, 10), Validators(None, MODIFIED), 10),
        (Validators(None, MODIFIED), 10, (5, 10, 10), Validators(), 10),
        (Validators('"a"'), 10, None, Validators('"a"'), "without"),
        (Validators('"a"'), 10, (4, 10, 10), Validators('"a"'), "from 4"),
        (Validators('"a"'), 10, (0, 10, 10), Validators('"a"'), "from 0"),
        (Validators('"a"'), 10, (5, 11, 11), Validators('"a"'), "11 bytes"),
        (Validators('"a"'), 10, (5, 10, None), Validators('"a"'), "None bytes"),
        (Validators('"a"'), 10, (5, 10, 10), Validators('"b"'), "ETag"),
        (Validators('"a"'), 10, (5, 10, 10), Validators('W/"a"'), "ETag"),
        (Validators('"a"'), 10, (5, 10, 10), Validators(), "ETag"),
        (Validators(None, MODIFIED), 10, (5, 10, 10), Validators('"a"', MODIFIED), "ETag"),
        (Validators(None, MODIFIED), 10, (5, 10, 10), Validators(None, A_SECOND_LATER), "Last-Modified"),
    ],
)
def test_only_an_answer_that_goes_on_with_the_same_archive_is_used(
    known: Validators,
    total_bytes: int | None,
    content_range: tuple[int, int, int | None] | None,
    stated: Validators,
    total: int | str | None,
) -> None:
    resume = Resume(5, total_bytes, known)
    stated_range = ContentRange(*content_range) if content_range is not None else None
    if isinstance(total, str):
        with pytest.raises(RangeRefused, match=total):
            resume.total_of(stated_range, stated)
    else:
        assert resume.total_of(stated_range, stated) == total


def test_the_condition_is_the_etag_where_there_is_one() -> None:
    assert Resume(5, None, Validators('"a"', MODIFIED)).headers() == {"Range": "bytes=5-", "If-Range": '"a"'}
    assert Resume(5, None, Validators(None, MODIFIED)).headers() == {"Range": "bytes=5-", "If-Range": MODIFIED}

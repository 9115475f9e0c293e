"""How old an object is, by the store's own clock."""

from __future__ import annotations

import pytest

from hubd.network.bucket import age_seconds

NOW = "Fri, 27 Nov 2026 05:00:00 GMT"
A_MINUTE_AGO = "Fri, 27 Nov 2026 04:59:00 GMT"


def test_an_age_is_told_by_two_headers_of_one_answer() -> None:
    assert age_seconds(NOW, A_MINUTE_AGO) == 60.0
    assert age_seconds(A_MINUTE_AGO, NOW) == 0.0


@pytest.mark.parametrize(
    ("now", "then"), [(None, A_MINUTE_AGO), (NOW, None), (NOW, "yesterday"), (NOW, "Fri, 27 Nov 2026 04:59:00")]
)
def test_what_does_not_tell_its_age_is_not_taken_for_fresh(now: str | None, then: str | None) -> None:
    assert age_seconds(now, then) > 300 * 86400

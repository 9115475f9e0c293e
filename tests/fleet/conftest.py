"""The stores that every promise of a fleet is kept on, each a real server."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.buckets import Bucket
from tests.support.fronted import Fleet, fronted

_NUMBERS = itertools.count()


@pytest.fixture(params=["s3", pytest.param("azure", marks=pytest.mark.thorough)])
def bucket(request: pytest.FixtureRequest) -> Bucket:
    return Bucket(request.getfixturevalue(request.param), f"fleet-{next(_NUMBERS)}")


@pytest.fixture
def fleet(bucket: Bucket, tmp_path: Path) -> Iterator[Fleet]:
    with fronted(bucket, tmp_path) as made:
        yield made

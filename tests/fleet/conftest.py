"""The stores that every promise of a fleet is kept on, each a real server."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.buckets import Bucket
from tests.support.fronted import Fleet, fronted
from tests.support.object_stores import AzureServer, S3Server, require_azurite

_NUMBERS = itertools.count()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with S3Server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzureServer]:
    require_azurite()
    with AzureServer(tmp_path_factory.mktemp("azure")) as server:
        yield server


@pytest.fixture(params=["s3", pytest.param("azure", marks=pytest.mark.thorough)])
def bucket(request: pytest.FixtureRequest) -> Bucket:
    return Bucket(request.getfixturevalue(request.param), f"fleet-{next(_NUMBERS)}")


@pytest.fixture
def fleet(bucket: Bucket, tmp_path: Path) -> Iterator[Fleet]:
    with fronted(bucket, tmp_path) as made:
        yield made

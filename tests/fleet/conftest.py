"""The stores that every promise of the fleet is kept on, each a real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machines import Machines, machines
from tests.support.object_stores import Bucket, server


@pytest.fixture(scope="session")
def s3_port() -> Iterator[int]:
    with server("s3") as port:
        yield port


@pytest.fixture(scope="session")
def azure_port() -> Iterator[int]:
    with server("azure") as port:
        yield port


@pytest.fixture(params=["s3", "azure"])
def bucket(request: pytest.FixtureRequest) -> Bucket:
    """A new one."""
    return Bucket(request.param, request.getfixturevalue(f"{request.param}_port"))


@pytest.fixture
def fleet(bucket: Bucket, tmp_path: Path) -> Iterator[Machines]:
    with machines(bucket, tmp_path) as made:
        yield made

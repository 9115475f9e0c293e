"""Machines of one fleet, and two that run, for files about what they share.

Law: each file has a prefix of its own in the bucket. One whose tests must find nothing there says so by a `machines` of
its own, for each test.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.daemon import Daemon
from tests.support.machines import Machines
from tests.support.object_stores import S3Server


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory, s3: S3Server) -> Machines:
    return Machines(tmp_path_factory.mktemp("machines"), s3)


@pytest.fixture(scope="module")
def one(machines: Machines) -> Iterator[Daemon]:
    with machines.machine("one") as running:
        yield running


@pytest.fixture(scope="module")
def other(machines: Machines) -> Iterator[Daemon]:
    with machines.machine("other") as running:
        yield running

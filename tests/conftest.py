"""What most tests stand on: a scripted origin and a real daemon."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import Daemon
from tests.support.object_stores import AzureServer, S3Server, require_azurite
from tests.support.origin import Origin


def pytest_collection_finish() -> None:
    """What the imports have made stays for good: with TensorFlow among it, each later collection would take 0.2 s."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def ports() -> set[int]:
    """The ports that origins have had: a later one on the same port would be asked for what a daemon remembers."""
    return set()


@pytest.fixture
def origin(ports: set[int]) -> Iterator[Origin]:
    running = Origin()
    while running.port in ports:
        running.close()
        running = Origin()
    ports.add(running.port)
    with running:
        yield running


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A running daemon of its own."""
    with Daemon(tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def shared_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A running daemon for all tests of a file that leave it as it was."""
    with Daemon(tmp_path_factory.mktemp("daemon")) as running:
        yield running


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 store for all tests of a run: each makes buckets of its own."""
    with S3Server(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture(scope="session")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzureServer]:
    """An Azure store for all tests of a run: each makes containers of its own."""
    require_azurite()
    with AzureServer(tmp_path_factory.mktemp("azure")) as running:
        yield running

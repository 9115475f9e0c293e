"""The modules that the tests of TensorFlow load, each built once for the session and shared: do not write into them."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.building import Modules
from tests.support.handmade_cache import HandmadeCache


@pytest.fixture(scope="session")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Modules:
    """The directory of a module by name: ``modules("tf1/variants")``, ``modules("tf2/text_embedding")``."""
    return Modules(str(tmp_path_factory.mktemp("modules")))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HandmadeCache]:
    """The cache that hubclient looks into, without a daemon; what a test left behind has let go of its lease."""
    # What stands by now is not this test's: looking through all of TensorFlow would take 0.2 s at each collection.
    gc.freeze()
    made = HandmadeCache(tmp_path / "cache")
    monkeypatch.setenv("TFHUB_CACHE_DIR", made.root)
    monkeypatch.setenv("HUBD_AUTOSTART", "0")
    monkeypatch.setenv("HUBD_TIMEOUT", "0")
    monkeypatch.delenv("HUBD_SOCKET", raising=False)
    yield made
    gc.collect()

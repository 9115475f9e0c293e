"""A Module keeps its files for as long as they may be needed, and no longer."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest

import hubclient
from tests.support.building import Modules
from tests.support.handmade_cache import HandmadeCache, is_leased

pytestmark = pytest.mark.tensorflow
tf: Any = pytest.importorskip("tensorflow")

HANDLE = "https://example.org/m/1"
FORMS = ("tf1/text", "tf1/plain", "tf2/text_embedding", "tf2/plain")


def cached(cache: HandmadeCache, directory: str) -> str:
    """The module under `HANDLE`; the digest of its tree."""
    root = Path(directory)
    return cache.add(
        HANDLE, {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}
    )


@pytest.mark.parametrize("name", FORMS)
def test_in_the_eager_world_until_the_module_is_gone(name: str, modules: Modules, cache: HandmadeCache) -> None:
    digest = cached(cache, modules(name))
    module = hubclient.Module(HANDLE)
    gc.collect()
    assert is_leased(cache.layout, digest)
    del module
    gc.collect()
    assert not is_leased(cache.layout, digest)


@pytest.mark.parametrize("name", FORMS)
def test_in_a_graph_until_that_is_gone(name: str, modules: Modules, cache: HandmadeCache) -> None:
    digest = cached(cache, modules(name))
    with tf.Graph().as_default() as graph:
        hubclient.Module(HANDLE)
        gc.collect()
        with tf.compat.v1.Session() as session:  # its initializers read the checkpoint and the assets
            session.run([tf.compat.v1.global_variables_initializer(), tf.compat.v1.tables_initializer()])
    assert is_leased(cache.layout, digest)
    del graph, session
    gc.collect()
    assert not is_leased(cache.layout, digest)


def test_a_module_that_cannot_be_made_is_let_go_of(modules: Modules, cache: HandmadeCache) -> None:
    digest = cached(cache, modules("tf1/variants"))
    with pytest.raises(hubclient.VariantNotFound, match="train"):
        hubclient.Module(HANDLE, tags={"serving"})
    assert not is_leased(cache.layout, digest)

"""The modules that the tests of TensorFlow load, each built once for the session and shared: do not write into them."""

from __future__ import annotations

import pytest

from tests.support.building import Modules


@pytest.fixture(scope="session")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Modules:
    """The directory of a module by name: ``modules("tf1/variants")``, ``modules("tf2/text_embedding")``."""
    return Modules(str(tmp_path_factory.mktemp("modules")))

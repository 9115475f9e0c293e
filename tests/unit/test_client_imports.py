"""What `import hubclient` costs, and what it offers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import hubclient
from hubclient import model_errors
from hubclient.contract import errors

# A class of Keras's layers cannot be named without Keras.
LIGHT = [name for name in hubclient.__all__ if name != "KerasLayer"]

CLIENT = Path(hubclient.__file__).parent.parent

HEAVY = {"tensorflow", "http", "http.client", "json", "socket", "subprocess", "dataclasses", "typing", "asyncio"}


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(CLIENT)!r})\n{code}"],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def test_importing_hubclient_imports_nothing_heavy() -> None:
    code = "before = set(sys.modules); import hubclient; print(*(set(sys.modules) - before))"
    assert not HEAVY & set(run(code).split())


def test_a_hit_needs_neither_http_nor_json_nor_sockets() -> None:
    code = "import hubclient.resolving; print(*sys.modules)"
    assert not {"http.client", "json", "socket", "subprocess", "dataclasses"} & set(run(code).split())


def test_every_error_is_exported_under_its_name() -> None:
    exported = {getattr(hubclient, name) for name in LIGHT}
    of_modules = {one for one in vars(model_errors).values() if isinstance(one, type)}
    assert exported >= {errors.HubError, *errors.BY_CODE.values()} | of_modules


@pytest.mark.parametrize("name", LIGHT)
def test_every_exported_name_exists_and_is_listed(name: str) -> None:
    assert getattr(hubclient, name).__name__ == name
    assert name in dir(hubclient)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'resolv'"):
        exec("hubclient.resolv")


def test_tfhub_is_imported_when_it_is_named_and_tells_that_tensorflow_hub_is_missing() -> None:
    code = """
import hubclient
assert "tfhub" in dir(hubclient) and "hubclient.tfhub" not in sys.modules
sys.modules["tensorflow_hub"] = None
try:
    hubclient.tfhub.install()
except hubclient.TensorFlowMissing as error:
    print(error)
"""
    assert "there is no tensorflow_hub here: pip install tensorflow_hub" in run(code)

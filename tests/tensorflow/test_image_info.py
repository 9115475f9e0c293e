"""What images a module expects: from its attached message, else from the shape of its input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hubclient as hub
from tests.support.building import Modules

pytestmark = pytest.mark.tensorflow
tf: Any = pytest.importorskip("tensorflow")
from tests.support import tf1_modules  # noqa: E402  # which needs TensorFlow

v1: Any = tf.compat.v1


def build(directory: Path, shape: list[int | None] | None, message: bytes = b"", name: str = "images") -> str:
    def variant() -> tf1_modules.Variant:
        x = v1.placeholder(tf.float32, shape, "x")
        return tf1_modules.Variant({"default": ({name: x}, {"default": x + 0.0})}, {"image_module_info": message})

    tf1_modules.write(str(directory), {(): variant})
    return str(directory)


def test_the_size_is_what_the_module_states(modules: Modules) -> None:
    m = hub.Module(modules("tf1/image_of_any_size"))
    assert hub.get_expected_image_size(m) == list(tf1_modules.IMAGE_SIZE)
    assert hub.get_expected_image_size(m, "image_feature_vector") == list(tf1_modules.IMAGE_SIZE)
    assert hub.get_num_image_channels(m) == 3


def test_a_module_in_a_graph_tells_the_same(modules: Modules) -> None:
    with tf.Graph().as_default():
        m = hub.Module(modules("tf1/image_of_any_size"))
        assert hub.get_expected_image_size(m) == list(tf1_modules.IMAGE_SIZE)
        assert hub.get_num_image_channels(m, signature="image_feature_vector") == 3


def test_what_is_stated_goes_before_the_shape(tmp_path: Path) -> None:
    m = hub.Module(build(tmp_path / "m", [None, 5, 6, 3], b"\x0a\x04\x08\x08\x10\x09"))
    assert hub.get_expected_image_size(m) == [8, 9]


@pytest.mark.parametrize("message", [b"", b"\x0a\x02\x08\x08"], ids=["nothing", "height alone"])
def test_without_a_stated_size_the_shape_tells(tmp_path: Path, message: bytes) -> None:
    m = hub.Module(build(tmp_path / "m", [None, 5, 6, 1], message, "pictures"))
    assert hub.get_expected_image_size(m, input_name="pictures") == [5, 6]
    assert hub.get_num_image_channels(m, "default", "pictures") == 1


@pytest.mark.parametrize("ask", [hub.get_expected_image_size, hub.get_num_image_channels])
@pytest.mark.parametrize("shape", [None, [None, 5], [None, None, None, None]], ids=str)
def test_a_shape_that_does_not_tell_is_an_error(
    tmp_path: Path, ask: Callable[[Any], Any], shape: list[int | None] | None
) -> None:
    m = hub.Module(build(tmp_path / "m", shape))
    with pytest.raises(hub.InputInvalid, match=r"\[batch, height, width, channels\]"):
        ask(m)


def test_a_missing_input_is_named(modules: Modules) -> None:
    with pytest.raises(hub.InputInvalid, match=r"no input 'images'; it has \['default'\]"):
        hub.get_expected_image_size(hub.Module(modules("tf1/affine")))
    with pytest.raises(hub.SignatureNotFound):
        hub.get_num_image_channels(hub.Module(modules("tf1/affine")), "wrong")


def test_a_message_that_is_damaged_is_told(tmp_path: Path) -> None:
    with pytest.raises(hub.ModuleBroken, match="image_module_info"):
        hub.get_expected_image_size(hub.Module(build(tmp_path / "m", [None, 5, 6, 3], b"\x0a\x09\x08")))


def test_a_tensorflow_2_module_tells_its_channels(modules: Modules) -> None:
    m = hub.Module(modules("tf2/image_feature_vector"))
    assert hub.get_num_image_channels(m) == 3
    with pytest.raises(hub.InputInvalid, match="known height and width"):
        hub.get_expected_image_size(m)

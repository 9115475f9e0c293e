"""The common signatures of TensorFlow Hub, told from tensors alone."""

from __future__ import annotations

import pytest

from hubclient.contract.common_signatures import (
    IMAGE_CLASSIFICATION,
    IMAGE_EITHER,
    IMAGE_FEATURE_VECTOR,
    TEXT_EMBEDDING,
    common_signature,
)
from hubclient.contract.saved_model import Signature, TensorSpec


def dense(dtype: str, *shape: int | None) -> TensorSpec:
    return TensorSpec("t:0", dtype, shape, "dense")


IMAGES = dense("float32", None, 224, 224, 3)
TEXTS = dense("string", None)
VECTOR = dense("float32", None, 1001)


def meets(name: str, inputs: dict[str, TensorSpec], outputs: dict[str, TensorSpec]) -> str | None:
    return common_signature(name, Signature("", inputs, outputs))


@pytest.mark.parametrize(
    ("name", "inputs", "outputs", "common"),
    [
        ("image_feature_vector", {"images": IMAGES}, {"default": VECTOR}, IMAGE_FEATURE_VECTOR),
        ("image_classification", {"images": IMAGES}, {"default": VECTOR}, IMAGE_CLASSIFICATION),
        ("image_classification", {"images": IMAGES}, {"default": VECTOR, "hidden": IMAGES}, IMAGE_CLASSIFICATION),
        ("default", {"images": IMAGES}, {"default": VECTOR}, IMAGE_EITHER),
        ("serving_default", {"input_1": dense("float32", None, None, None, 3)}, {"logits": VECTOR}, IMAGE_EITHER),
        ("default", {"default": TEXTS}, {"default": VECTOR}, TEXT_EMBEDDING),
        ("serving_default", {"sentences": TEXTS}, {"output_0": VECTOR}, TEXT_EMBEDDING),
    ],
)
def test_what_meets_a_definition_is_named(
    name: str, inputs: dict[str, TensorSpec], outputs: dict[str, TensorSpec], common: str
) -> None:
    assert meets(name, inputs, outputs) == common


@pytest.mark.parametrize(
    "images",
    [
        dense("uint8", None, 224, 224, 3),
        dense("float32", 1, 224, 224, 3),
        dense("float32", None, 224, 224, 1),
        dense("float32", None, 224, 3),
        TensorSpec("", "float32", None, "dense"),
        TensorSpec("", "float32", (None, 224, 224, 3), "sparse"),
        dense("string"),
        dense("string", None, 1),
    ],
    ids=str,
)
def test_an_input_of_another_form_meets_none(images: TensorSpec) -> None:
    for name in ("default", "image_feature_vector", "image_classification"):
        assert meets(name, {"images": images}, {"default": VECTOR}) is None


@pytest.mark.parametrize(
    "vector",
    [
        dense("float16", None, 10),
        dense("float32", None, None),
        dense("float32", 1, 10),
        dense("float32", None),
        TensorSpec("", "float32", None, "dense"),
    ],
    ids=str,
)
@pytest.mark.parametrize("given", [IMAGES, TEXTS], ids=["images", "texts"])
def test_an_output_of_another_form_meets_none(given: TensorSpec, vector: TensorSpec) -> None:
    assert meets("default", {"images": given}, {"default": vector}) is None


def test_names_and_numbers_of_tensors_count() -> None:
    assert meets("image_classification", {"pixels": IMAGES}, {"default": VECTOR}) is None
    assert meets("image_classification", {"images": IMAGES}, {"logits": VECTOR}) is None
    assert meets("image_classification", {"images": TEXTS}, {"default": VECTOR}) is None
    assert meets("default", {"a": TEXTS, "b": TEXTS}, {"default": VECTOR}) is None
    assert meets("default", {"a": TEXTS}, {"x": VECTOR, "y": VECTOR}) is None
    assert meets("default", {}, {"default": VECTOR}) is None
    assert meets("default", {"a": TEXTS}, {}) is None

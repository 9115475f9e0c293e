"""A module in the TF1 format as layers use it: one variant for inference and one for training.

Law: both have the same variables, so that what one learns the other knows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from hubclient.instances.instance import SignatureInfo
from hubclient.instances.tf1_eager import Tf1Eager

TRAIN = ("train",)


class Tf1Variants:
    """An `Instance` of two: the variant without tags, and the variant {"train"} for what is trained.

    A variant that the caller named by its tags, or that the module has alone, is used for both.
    """

    def __init__(self, inference: Tf1Eager) -> None:
        self._inference = inference
        self._train = inference
        if not inference.tags and TRAIN in inference.variant_tags():
            self._train = inference.variant(TRAIN)

    def trackables(self) -> list[Any]:
        """What TensorFlow must save with functions that call the module, besides variables: its tables."""
        variants = {id(variant): variant for variant in (self._inference, self._train)}
        return [trackable for variant in variants.values() for trackable in variant.trackables()]

    @property
    def signatures(self) -> Mapping[str, SignatureInfo]:
        return self._inference.signatures

    @property
    def call(self) -> Callable[..., Any] | None:
        return None

    def apply(self, signature: str, inputs: Mapping[str, Any], training: bool | None) -> dict[str, Any]:
        """Updates run with a call in training; a signature that only inference has is the same in training."""
        if training and self.signatures[signature] == self._train.signatures.get(signature):
            return self._train.apply(signature, inputs, True)
        return self._inference.apply(signature, inputs, bool(training) and self._train is self._inference)

    @cached_property
    def variables(self) -> list[Any]:
        return _distinct([*self._inference.variables, *self._train.variables])

    @property
    def variable_map(self) -> dict[str, Any]:
        return {**self._inference.variable_map, **self._train.variable_map}

    @cached_property
    def trainable_variables(self) -> list[Any]:
        return _distinct([*self._inference.trainable_variables, *self._train.trainable_variables])

    @property
    def regularization_losses(self) -> list[Callable[[], Any]]:
        return self._train.regularization_losses

    @property
    def update_ops(self) -> list[Any]:
        return []

    def attached_message(self, key: str) -> bytes | None:
        return self._inference.attached_message(key)

    def export(self, path: str, session: Any) -> None:
        self._inference.export(path, session)


def _distinct(variables: list[Any]) -> list[Any]:
    return list({id(variable): variable for variable in variables}.values())

"""A module of TensorFlow 1 as a SavedModel with the reusable interface, from the eager world.

Law: nothing that fine-tuning needs is lost: weights, both variants, losses and updates; ``__call__(x, training=True)``
is the variant that is made for training, with its updates, and all else the one that is made for use.

Attached messages stay behind: the form has no place for them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hubclient.instances.instance import DEFAULT, SignatureInfo

if TYPE_CHECKING:
    from hubclient.instances.tf1_eager import Tf1Eager

_FOR_USE: tuple[tuple[str, ...], ...] = ((), ("serve",))
_FOR_TRAINING: tuple[tuple[str, ...], ...] = (("train",), ("serve", "train"))


def export(instance: Tf1Eager, path: str) -> None:
    """Write the module with the instance's present weights. Raises what `hubclient.export` raises."""
    import tensorflow as tf

    from hubclient.exporting import export

    with tf.init_scope():
        use, training = _variants(instance.trainable_twin())
        use.take_values(instance)
        root = tf.__internal__.tracking.AutoTrackable()
        root.variables = list({id(each): each for each in (*use.variables, *training.variables)}.values())
        root.trainable_variables = training.trainable_variables
        root.regularization_losses = training.regularization_losses
        variants = [use] if training is use else [use, training]
        root.trackables = [trackable for variant in variants for trackable in variant.trackables()]
        signatures = {name: _signature(use, name, info) for name, info in use.signatures.items()}
        inputs = None
        if DEFAULT in use.signatures and use.signatures[DEFAULT].inputs:
            root.__call__ = _call(use, training)
            specs = use.signatures[DEFAULT].inputs
            inputs = next(iter(specs.values())) if len(specs) == 1 else dict(specs)
        export(root, path, signatures=signatures, inputs=inputs)


def _variants(instance: Tf1Eager) -> tuple[Tf1Eager, Tf1Eager]:
    """The one for use and the one for training, which may be the same."""
    known = instance.variant_tags()
    tags = next((tags for tags in _FOR_USE if tags in known), None)
    use = instance if tags is None else instance.variant(tags)
    if use is not instance:
        training = instance
    else:
        tags = next((tags for tags in _FOR_TRAINING if tags in known), None)
        training = instance if tags is None else instance.variant(tags)
    is_alike = use.signatures.get(DEFAULT) == training.signatures.get(DEFAULT)
    return use, training if is_alike else use


def _call(use: Tf1Eager, training_variant: Tf1Eager) -> Any:
    """``__call__``; it has the argument `training` only if that makes a difference."""
    import tensorflow as tf

    names = list(use.signatures[DEFAULT].inputs)

    def apply(variant: Tf1Eager, inputs: Any, training: bool) -> Any:
        given = inputs if isinstance(inputs, Mapping) else {names[0]: inputs}
        outputs = variant.apply(DEFAULT, given, training)
        return outputs.get(DEFAULT, outputs)

    def call(inputs: Any) -> Any:
        return apply(use, inputs, False)

    def call_for_both(inputs: Any, training: bool = False) -> Any:
        return apply(training_variant, inputs, True) if training else call(inputs)

    follows_training = use is not training_variant or use.has_updates
    return tf.function(call_for_both if follows_training else call, autograph=False)


def _signature(instance: Tf1Eager, name: str, info: SignatureInfo) -> Any:
    """A concrete function of the signature's inputs by name, a sparse or ragged one by its components.

    A SavedModel's signatures take and give dense tensors. Components have the names that ``tf.saved_model.load`` gives
    them too: see load_v1_in_v2.py of TensorFlow.
    """
    import tensorflow as tf

    components = {key: _components(re.sub(r"\W|^(?=\d)", "_", key), spec) for key, spec in info.inputs.items()}
    results = {key: _components(key, spec) for key, spec in info.outputs.items()}

    def signature(**given: Any) -> dict[str, Any]:
        inputs = {
            key: tf.nest.pack_sequence_as(spec, [given[part] for part in components[key]], expand_composites=True)
            for key, spec in info.inputs.items()
        }
        outputs = instance.apply(name, inputs, False)
        return {
            part: tensor
            for key, parts in results.items()
            for part, tensor in zip(parts, tf.nest.flatten(outputs[key], expand_composites=True), strict=True)
        }

    specs = {name: spec for parts in components.values() for name, spec in parts.items()}
    return tf.function(signature, autograph=False).get_concrete_function(**specs)


def _components(name: str, spec: Any) -> dict[str, Any]:
    """The dense tensors that a value of this spec consists of, by their names, as specs."""
    import tensorflow as tf

    if isinstance(spec, tf.TensorSpec):
        return {name: tf.TensorSpec(spec.shape, spec.dtype, name)}
    dense = tf.nest.flatten(spec, expand_composites=True)
    parts: list[Any] = [f"component_{number}" for number in range(len(dense))]
    if isinstance(spec, tf.SparseTensorSpec):
        parts = ["indices", "values", "dense_shape"]
    return {
        f"{name}_{part}": tf.TensorSpec(each.shape, each.dtype, f"{name}_{part}")
        for part, each in zip(parts, dense, strict=True)
    }

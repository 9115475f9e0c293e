"""A module of TensorFlow 1 in the eager world: variables of its own, and functions cut out of its graph.

Law: all variants that are made from one another share their variables, so that what one learns the others know.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, MutableMapping
from functools import cached_property
from typing import Any

from hubclient.instances import tf1_collections
from hubclient.instances.instance import SignatureInfo
from hubclient.instances.meta_graph import read_meta_graph
from hubclient.instances.prepared_graph import prepare
from hubclient.instances.tf1_functions import Function, GraphFunctions, told_as_broken
from hubclient.instances.tf1_resources import make_initializer
from hubclient.instances.tf1_variables import by_full_name, restore, variable_specs
from hubclient.model_errors import ModuleBroken, ModuleUnsupported
from hubclient.opening import OpenModule, Tags


class Tf1Eager:
    """One variant of the module; also of a plain SavedModel of TensorFlow 1.

    `variables` are those of other variants, by the names of their nodes: they are used, and the missing ones added.
    """

    def __init__(
        self,
        module: OpenModule,
        meta_graph: Any,
        trainable: bool,
        name: str,
        variables: MutableMapping[str, Any] | None = None,
    ) -> None:
        self._module = module
        self._meta_graph = meta_graph
        self._trainable = trainable
        self._name = name
        self._all_variables: MutableMapping[str, Any] = {} if variables is None else variables
        self._specs = variable_specs(meta_graph)
        self._signatures = tf1_collections.signatures(meta_graph)
        self._updates = tf1_collections.nodes(meta_graph, "update_ops")
        self._losses = tf1_collections.nodes(meta_graph, "regularization_losses")
        self._lock = threading.Lock()
        self._applied: dict[tuple[str, bool], Function] = {}
        self._variants: dict[tuple[str, ...], Tf1Eager] = {}
        with told_as_broken(module.path):
            prepared = prepare(meta_graph)
        #: the module's files, by the tensors that take their paths
        self.assets = tf1_collections.assets(meta_graph, module.path)
        #: the operations that fill its tables
        self.initializers = tf1_collections.initializers(meta_graph)
        restored = self._make_variables()
        self.functions = GraphFunctions(prepared, self._all_variables, module.path)
        self._check_names()
        for spec in self._specs:
            if spec.name not in restored:
                self._run_initializer(spec.name, spec.initializer)
        self.functions.initialize(self.initializers, self.assets)

    @property
    def tags(self) -> tuple[str, ...] | None:
        return self._module.tags

    @property
    def trainable(self) -> bool:
        return self._trainable

    def variant(self, tags: Tags) -> Tf1Eager:
        """The module's variant with these tags, with the variables of this one; the same one each time.

        Raises `VariantNotFound` that names the variants.
        """
        import tensorflow as tf

        module = OpenModule(self._module.path, None, tags)
        if module.tags == self.tags or module.tags is None:
            return self
        with self._lock, tf.init_scope():
            if module.tags not in self._variants:
                made = Tf1Eager(module, read_meta_graph(module), self._trainable, self._name, self._all_variables)
                self._variants[module.tags] = made
            return self._variants[module.tags]

    def variant_tags(self) -> list[tuple[str, ...]]:
        """The tags of all variants, each set sorted; none for a module in text form."""
        return [graph.tags for graph in self._module.graphs]

    @cached_property
    def signatures(self) -> Mapping[str, SignatureInfo]:
        return {name: signature.info for name, signature in self._signatures.items()}

    @property
    def call(self) -> Callable[..., Any] | None:
        return None

    def apply(self, signature: str, inputs: Mapping[str, Any], training: bool | None) -> dict[str, Any]:
        import tensorflow as tf

        function = self._function(signature, update=self._trainable and training is not False)
        definition = self._signatures[signature]
        given = {
            tensor: part
            for name, tensors in definition.input_tensors.items()
            for tensor, part in zip(tensors, _flatten(inputs[name]), strict=True)
        }
        results = iter(function(*given.values()))
        return {
            name: tf.nest.pack_sequence_as(spec, [next(results) for _ in definition.output_tensors[name]], True)
            if not isinstance(spec, tf.TensorSpec)
            else next(results)
            for name, spec in definition.info.outputs.items()
        }

    @property
    def has_updates(self) -> bool:
        """Whether calls of a trainable instance change variables that no optimizer changes."""
        return bool(self._updates)

    @cached_property
    def variables(self) -> list[Any]:
        return [self._all_variables[spec.name] for spec in self._specs]

    @property
    def variable_map(self) -> dict[str, Any]:
        return by_full_name(self._specs, self._all_variables)

    @cached_property
    def trainable_variables(self) -> list[Any]:
        return [self._all_variables[spec.name] for spec in self._specs if self._trainable and spec.trainable]

    def trackables(self) -> list[Any]:
        """What must be saved beside variables with functions that apply this variant: tables, and what fills them."""
        tables = list(self.functions.resources.values())
        if not self.initializers:
            return tables
        fill = self.functions.function(list(self.assets), [], self.initializers)
        return [*tables, make_initializer(fill, list(self.assets.values()))]

    @cached_property
    def regularization_losses(self) -> list[Callable[[], Any]]:
        """Those that depend on variables alone: a function without arguments has no inputs to give."""
        if not self._trainable:
            return []
        return [self._loss(loss) for loss in self._losses if not self.functions.placeholders(loss)]

    @property
    def update_ops(self) -> list[Any]:
        return []

    def attached_message(self, key: str) -> bytes | None:
        return tf1_collections.attached_message(self._meta_graph, key)

    def export(self, path: str, session: Any) -> None:
        from hubclient.instances.tf1_eager_export import export

        export(self, path)

    def trainable_twin(self) -> Tf1Eager:
        """This variant in a form that can be trained, with variables of its own; itself if it can be."""
        if self._trainable:
            return self
        return Tf1Eager(self._module, self._meta_graph, True, self._name)

    def take_values(self, other: Tf1Eager) -> None:
        """Give the variables, which all variants share, the values that those of `other` have."""
        for name, variable in other._all_variables.items():
            if self._all_variables[name] is not variable:
                self._all_variables[name].assign(variable)

    def _make_variables(self) -> set[str]:
        """Add the variables that are not there yet; answers the names of those that need no initial value any more."""
        import tensorflow as tf

        missing = [spec for spec in self._specs if spec.name not in self._all_variables]
        known = {spec.name for spec in self._specs} - {spec.name for spec in missing}
        values = restore(missing, self._module.path)
        for spec in missing:
            value = values.get(spec.name)
            if value is None:
                value = tf.zeros([size or 0 for size in spec.shape] if spec.shape.rank else [], spec.dtype)
            self._all_variables[spec.name] = tf.Variable(
                value,
                trainable=self._trainable and spec.trainable,
                name=f"{self._name}/{spec.name}" if self._name else spec.name,
                shape=spec.shape,
            )
            if isinstance(self._all_variables[spec.name], tf.distribute.DistributedValues):
                raise ModuleUnsupported(
                    "the variables of a module of TensorFlow 1 cannot be copied to several replicas: "
                    "make it outside of the scope of the tf.distribute strategy"
                )
        return known | values.keys()

    def _run_initializer(self, variable: str, initializer: str) -> None:
        try:
            self.functions.function([], [], [initializer])()
        except ModuleBroken as error:
            raise ModuleBroken(
                f"the variable {variable!r} is neither in the checkpoint nor can it be initialised: {error.detail}"
            ) from error

    def _check_names(self) -> None:
        for signature in self._signatures.values():
            for tensors in (*signature.input_tensors.values(), *signature.output_tensors.values()):
                self.functions.check(tensors)
        self.functions.check([*self._updates, *self._losses, *self.initializers, *self.assets])

    def _function(self, signature: str, *, update: bool) -> Function:
        with self._lock:
            if (signature, update) not in self._applied:
                definition = self._signatures[signature]
                # Each once: a signature may have two names for one tensor.
                feeds = list(
                    dict.fromkeys(tensor for tensors in definition.input_tensors.values() for tensor in tensors)
                )
                fetches = [tensor for name in definition.info.outputs for tensor in definition.output_tensors[name]]
                # An update that needs the inputs of another signature belongs to that one.
                updates = [each for each in self._updates if update and not self.functions.placeholders(each, feeds)]
                self._applied[signature, update] = self.functions.function(feeds, fetches, updates)
            return self._applied[signature, update]

    def _loss(self, tensor: str) -> Callable[[], Any]:
        function = self.functions.function([], [tensor])
        return lambda: function()[0]


def _flatten(value: Any) -> list[Any]:
    import tensorflow as tf

    return list(tf.nest.flatten(value, expand_composites=True))

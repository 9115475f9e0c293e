"""`export`: from a TensorFlow object to a module that others load, call and fine-tune.

Law: a module appears at its path whole, with the reusable SavedModel interface as far as its object can have it
(tensorflow.org/hub/reusable_saved_models), each variable is stored once, and the object is left as it was.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from hubclient.atomic import absolute, new_directory, refuse_existing
from hubclient.contract.errors import AccessDenied, HubError
from hubclient.exports.operations import refuse_python
from hubclient.exports.parts import Parts, parts_of, union
from hubclient.exports.variants import RESOURCES, join
from hubclient.model_errors import ExportInvalid
from hubclient.opening import import_tensorflow

_SERVE = ("serve",)
_KEYS = {"signatures": "name", "variants": "tags"}
# What the interface owns: attributes of these names are not taken over from the object.
_RESERVED = frozenset(
    ("__call__", "variables", "trainable_variables", "regularization_losses", "signatures", RESOURCES)
)
_TENSORFLOWS = "_self_"
_TF1_HINT = " (it is of the TF1 format: hubclient.Module(handle).export(path) exports it)"


class _Variant(NamedTuple):
    tags: tuple[str, ...]
    parts: Parts


def export(
    obj: Any,
    path: str | os.PathLike[str],
    signatures: Mapping[str, Any] | None = None,
    tags: str | Iterable[str] | None = None,
    *,
    inputs: Any = None,
    variants: Mapping[str | tuple[str, ...] | frozenset[str], Any] | None = None,
) -> str:
    """Write the object as a module to a new directory; its path.

    `obj` is a ``tf.Module``, a Keras 3 or tf_keras model or layer, a loaded module, a ``tf.function`` or concrete
    function, or any callable. What it takes is known from its ``input_signature`` or its Keras inputs, and else said
    by `inputs`: one ``tf.TypeSpec``, or a list or dict of them: the one argument, or for a callable that requires
    several, its arguments by position or name; a dict may name optional ones too. A callable with an argument
    `training` is traced for both.

    The module has ``__call__``, ``variables``, ``trainable_variables`` and ``regularization_losses`` (callables
    without arguments), those of the object or, in Keras, of its weights; the functions and variables that a
    ``tf.Module`` has as attributes, by their names; the signature "serving_default" as TensorFlow makes it, and
    "default", where a single output is named "default" too. `signatures` (and an attribute of this name) adds more,
    or replaces these: ``tf.function``s with an input signature, or concrete functions.

    `tags` names the graph, {"serve"} unless said otherwise. `variants` adds graphs by their tags, each made of an
    object of its own: what they share is stored once, and all of them list all variables. `load` with the tags gives
    such a variant as a callable object, other loaders its signatures.

    Missing parents of `path` are made, and stay. Whatever ends this early, Ctrl-C too, leaves nothing else behind.

    Raises `PathExists`, `ExportInvalid`, `DiskFull`, `AccessDenied`, `TensorFlowMissing`.
    """
    tensorflow = import_tensorflow("export()")
    target = absolute(path)
    refuse_existing(target)
    if not tensorflow.executing_eagerly():
        raise ExportInvalid("export() needs eager mode: call it outside of tf.Graph and tf.function")
    if tensorflow.distribute.in_cross_replica_context() and tensorflow.distribute.has_strategy():
        raise ExportInvalid("export() would trace the functions for many replicas: call it outside of strategy.scope()")
    for name, named in (("signatures", signatures), ("variants", variants)):
        if named is not None and not isinstance(named, Mapping):
            raise ExportInvalid(f"{name}= is a dict of them by {_KEYS[name]}, not a {type(named).__name__}")
    wanted = [(_SERVE if tags is None else _tag_set(tags), obj, signatures or {})]
    wanted += [(_tag_set(named), other, {}) for named, other in (variants or {}).items()]
    if len({named for named, _, _ in wanted}) < len(wanted):
        raise ExportInvalid(f"each variant needs tags of its own, not {[list(named) for named, _, _ in wanted]}")
    made = [_Variant(named, parts_of(other, inputs, extra)) for named, other, extra in wanted]
    hint = _TF1_HINT if getattr(obj, "_is_hub_module_v1", False) else ""
    with new_directory(target) as staged, _told(tensorflow, target, hint):
        if len(made) == 1:
            _save(tensorflow, made[0].parts, staged)
        else:
            for number, parts in enumerate(_shared(tensorflow, [variant.parts for variant in made])):
                _save(tensorflow, parts, staged if number == 0 else os.path.join(staged, f"variant-{number}"))
        if [variant.tags for variant in made] != [_SERVE]:
            join(staged, [variant.tags for variant in made])
    return target


def _tag_set(tags: str | Iterable[str]) -> tuple[str, ...]:
    named = (tags,) if isinstance(tags, str) else tuple(tags) if isinstance(tags, Iterable) else (tags,)
    if not all(isinstance(tag, str) and tag for tag in named):
        raise ExportInvalid(f"tags are text, or a collection of it, not {tags!r}")
    return tuple(sorted(set(named)))


def _shared(tensorflow: Any, parts: list[Parts]) -> list[Parts]:
    """The same parts so that one checkpoint fits all: the same lists of state, and no other way to reach it."""
    variables = union(*(part.variables for part in parts))
    resources = union(*(part.resources for part in parts))
    function = tensorflow.types.experimental.Callable
    return [
        part._replace(
            variables=variables,
            resources=resources,
            children={name: child for name, child in part.children.items() if isinstance(child, function)},
        )
        for part in parts
    ]


def _save(tensorflow: Any, parts: Parts, directory: str) -> None:
    root = tensorflow.__internal__.tracking.AutoTrackable()
    # The first way from the root to a variable decides its key in the checkpoint, so these lists come first.
    root.variables = list(parts.variables)
    setattr(root, RESOURCES, list(parts.resources))
    root.trainable_variables = list(parts.trainable_variables)
    root.regularization_losses = list(parts.regularization_losses)
    for name, child in parts.children.items():
        if name not in _RESERVED and not name.startswith(_TENSORFLOWS):
            setattr(root, name, child)
    if parts.call is not None:
        root.__call__ = parts.call
    # Without its custom gradients a module can be used, but not fine-tuned.
    options = tensorflow.saved_model.SaveOptions(experimental_custom_gradients=True)
    tensorflow.saved_model.save(root, directory, signatures=parts.signatures, options=options)
    refuse_python(directory)


@contextmanager
def _told(tensorflow: Any, path: str, hint: str) -> Iterator[None]:
    """TensorFlow's errors of saving as hubclient's own."""
    try:
        yield
    except (HubError, OSError, MemoryError):
        raise
    except tensorflow.errors.PermissionDeniedError as error:
        raise AccessDenied(f"cannot write {path}: {error.message}") from error
    except Exception as error:
        text = str(error)
        if os.strerror(errno.ENOSPC).lower() in text.lower() or os.strerror(errno.EDQUOT).lower() in text.lower():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path) from error
        if "untracked" in text:
            text = (
                "a function uses a variable, table or other resource that the object does not hold: make it an "
                f"attribute of the tf.Module that you export ({text.splitlines()[0]})"
            )
        raise ExportInvalid(f"TensorFlow cannot save this object{hint}: {text}") from error

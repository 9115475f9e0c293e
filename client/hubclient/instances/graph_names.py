"""The names that a module gets in a v1 graph.

Law: no two modules and no two calls of one share a scope, and a module's variables are where ``get_variable`` would put
them: below the variable scope, whatever the name scope.
"""

from __future__ import annotations

import re
from typing import Any

from hubclient.model_errors import InputInvalid

# What TensorFlow takes for one level of a scope.
_LEVEL = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\-]*")


def check_name(name: Any) -> None:
    """Raises `InputInvalid` for a module's name that TensorFlow cannot use in graphs."""
    if not isinstance(name, str) or not _LEVEL.fullmatch(name):
        raise InputInvalid(f"the name of a Module is letters, digits, '_', '.', '-', and begins with no sign: {name!r}")


def unused_scope(name: str) -> str:
    """The absolute scope for a module's state: `name` below the variable scope, with a number if that is taken."""
    import tensorflow as tf

    graph = tf.compat.v1.get_default_graph()
    while True:  # each round takes the next number, and the names in a graph are finite
        with tf.compat.v1.variable_scope(None, default_name=name, auxiliary_name_scope=False) as scope:
            absolute = str(scope.name)
        with graph.name_scope(None):
            if graph.unique_name(absolute, mark_as_used=False) == absolute:
                graph.unique_name(absolute)
                return absolute


def call_scope(name: str, signature: str) -> str:
    """The absolute scope for a call: ``<name>_apply_<signature>`` below the name scope, with a number if taken."""
    import tensorflow as tf

    safe = re.sub(r"[^A-Za-z0-9_.\-]", "_", signature)
    return str(tf.compat.v1.get_default_graph().unique_name(f"{name}_apply_{safe}"))

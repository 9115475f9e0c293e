"""`KerasLayer`, for the Keras that ``tf.keras`` is in this process.

Law: Keras and TensorFlow are imported when `KerasLayer` is first asked for, and not before.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from hubclient.model_errors import TensorFlowUnusable
from hubclient.opening import import_tensorflow

#: what chooses between the kinds of Keras
_CHOICES = ("KERAS_BACKEND", "TF_USE_LEGACY_KERAS")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hubclient.keras_layers.keras3 import KerasLayer as KerasLayer


def __getattr__(name: str) -> Any:
    if name != "KerasLayer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _major_version_of_keras() >= 3:
        from hubclient.keras_layers.keras3 import KerasLayer
    else:
        from hubclient.keras_layers.legacy import KerasLayer
    globals()[name] = KerasLayer
    return KerasLayer


def _major_version_of_keras() -> int:
    """Of ``tf.keras``, which is tf_keras where ``TF_USE_LEGACY_KERAS=1`` was set before its first use."""
    tf = import_tensorflow("KerasLayer")
    try:
        # tf.keras itself tells no version when it is tf_keras.
        version = import_module(tf.keras.layers.Layer.__module__.partition(".")[0]).__version__
    except (ImportError, AttributeError) as error:
        set_to = [f"{name}={os.environ[name]}" for name in _CHOICES if name in os.environ]
        raise TensorFlowUnusable(
            "KerasLayer needs Keras 3 on TensorFlow (pip install 'keras>=3'), or tf_keras where TF_USE_LEGACY_KERAS=1 "
            f"is set (pip install tf_keras); the one that is asked for{''.join(f', with {each},' for each in set_to)} "
            f"cannot be imported: {error.__context__ or error}"
        ) from error
    return int(version.partition(".")[0])

"""Loading a module into this process with TensorFlow.

Law: TensorFlow is imported inside functions only, and a loaded object's files stay for as long as it lives.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hubclient.contract.errors import DiskFull, HubError
from hubclient.loading_variants import load_variant
from hubclient.model_errors import InputInvalid, ModuleBroken, ModuleUnsupported
from hubclient.opening import OpenModule, Tags, import_tensorflow, open_module


def load(handle: str | os.PathLike[str], tags: Tags = None, options: Any = None) -> Any:
    """What ``tf.saved_model.load`` gives for the module, downloaded first if need be.

    `tags` names one of its variants; None: the only one, or for a module in the TF1 format the one without tags, or of
    several {"serve"}, else the one without tags. `options` is a ``tf.saved_model.LoadOptions``. Each variant of a
    module that `export` made comes as the whole object, where TensorFlow gives its signatures alone. A module in the
    TF1 format comes with its signatures, as in tensorflow_hub. The module is leased until the object is gone.

    Raises `HubError`s: `VariantNotFound` names the variants that exist, `ModuleBroken` holds TensorFlow's message,
    `ModuleUnsupported` names operations that this TensorFlow lacks, `TensorFlowMissing` says how to install it.
    """
    tensorflow = import_tensorflow("load()")
    _check_options(tensorflow, options)
    with open_module(handle, tags) as module:
        loaded = load_object(module, options)
        module.keep_while(loaded)
    return loaded


def load_object(module: OpenModule, options: Any = None) -> Any:
    """`load` for a module that is open already; the caller keeps its lease."""
    tensorflow = import_tensorflow("load()")
    _check_options(tensorflow, options)
    with _told(tensorflow, module):
        loaded = load_variant(tensorflow, module, options)
        if loaded is None:
            tags = () if module.tags is None and module.is_tf1 else module.tags
            loaded = tensorflow.saved_model.load(module.path, tags=tags, options=options)
        for asset in _assets(tensorflow, loaded):
            if not os.path.exists(asset):
                raise ModuleBroken(f"the module's asset {os.path.basename(asset)} is missing: there is no {asset}")
        # What tensorflow_hub's KerasLayer decides by.
        loaded._is_hub_module_v1 = module.is_tf1
    return loaded


def _check_options(tensorflow: Any, options: Any) -> None:
    if options is not None and not isinstance(options, tensorflow.saved_model.LoadOptions):
        raise InputInvalid(f"options is a tf.saved_model.LoadOptions, not a {type(options).__name__}")


def _assets(tensorflow: Any, loaded: Any) -> Iterator[str]:
    for node in tensorflow.train.TrackableView(loaded).descendants():
        if isinstance(node, tensorflow.saved_model.Asset) and tensorflow.executing_eagerly():
            yield os.fsdecode(node.asset_path.numpy())


@contextmanager
def _told(tensorflow: Any, module: OpenModule) -> Iterator[None]:
    """TensorFlow's errors as hubclient's own. What it raises for a damaged file may be of any class."""
    try:
        yield
    except (HubError, MemoryError, tensorflow.errors.ResourceExhaustedError):
        raise
    except Exception as error:
        text = _reason(error)
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DiskFull(f"loading a variant needs room in {tempfile.gettempdir()}: {text}") from error
        if "Op type not registered" in text or "not found in the op registry" in text:
            raise ModuleUnsupported(
                f"{module.path} uses an operation that this TensorFlow does not have, so its library "
                f"must be loaded first: {text}"
            ) from error
        raise ModuleBroken(f"{module.path} cannot be loaded: {text}") from error


def _reason(error: Exception) -> str:
    text = str(getattr(error, "message", None) or error)
    # "Graph execution error" begins with the caller's whole stack; the reason is its last paragraph.
    return text.rpartition("\n\n")[2] if "(most recent call last)" in text else text

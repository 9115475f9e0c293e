"""Loading a module into this process with TensorFlow.

Law: TensorFlow is imported inside functions only, and a loaded object's files stay for as long as it lives.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable
from typing import Any

from hubclient.contract import saved_model
from hubclient.contract.errors import HubError, NotAModule, NotFound
from hubclient.resolving import hold

_TF1_MARK = "tfhub_module.pb"


class TensorFlowMissing(HubError, ImportError):
    """There is no TensorFlow in this environment."""

    code = "tensorflow-missing"


def load(handle: str | os.PathLike[str], tags: str | Iterable[str] | None = None, options: Any = None) -> Any:
    """What ``tf.saved_model.load`` gives for the module, downloaded first if need be.

    `tags` names one of its variants; None: the only one, or for a module in the TF1 format, or one with several, the
    one without tags. `options` is a ``tf.saved_model.LoadOptions``. The module is leased until the object is gone.

    Raises `HubError`s: `NotFound` names the variants that exist, `TensorFlowMissing` says how to install it.
    """
    try:
        import tensorflow as tf
    except ModuleNotFoundError as error:
        if error.name != "tensorflow":
            raise
        raise TensorFlowMissing("load() needs TensorFlow: pip install 'hubclient[tensorflow]'") from None
    path, lease = hold(handle)
    try:
        loaded = tf.saved_model.load(path, tags=_choose(path, tags), options=options)
        if lease is not None:
            weakref.finalize(loaded, lease.release)
    except BaseException:
        if lease is not None:
            lease.release()
        raise
    return loaded


def _choose(path: str, tags: str | Iterable[str] | None) -> list[str] | None:
    """The tags of the variant to load; None when there is but one."""
    wanted = None if tags is None else sorted({tags} if isinstance(tags, str) else set(tags))
    if wanted is None and os.path.exists(os.path.join(path, _TF1_MARK)):
        wanted = []
    try:
        variants = [sorted(graph.tags) for graph in saved_model.read(os.path.join(path, "saved_model.pb"))]
    except FileNotFoundError:
        return wanted  # in text form, which TensorFlow reads by itself
    except saved_model.SavedModelError as error:
        raise NotAModule(f"{path}/saved_model.pb cannot be read: {error}") from error
    if wanted is None and len(variants) > 1:
        wanted = []
    if wanted is not None and wanted not in variants:
        named = ", ".join("{" + ", ".join(map(repr, variant)) + "}" for variant in variants)
        raise NotFound(f"the module has no variant with the tags {wanted}; it has {named}")
    return wanted

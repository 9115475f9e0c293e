"""From a handle and tags to a leased module directory and the variant that they mean.

Law: a module that is opened stays where it is until the object that was made of it is gone, and not longer.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from hubclient.contract import saved_model
from hubclient.contract.errors import NotAModule
from hubclient.contract.lease import Lease
from hubclient.contract.saved_model import MetaGraph
from hubclient.model_errors import InputInvalid, ModuleUnsupported, TensorFlowMissing, VariantNotFound
from hubclient.resolving import hold

Tags = str | Iterable[str] | None

_TF1_MARK = "tfhub_module.pb"
# ModuleDef (tensorflow_hub/module_def.proto): field 1, the format, is 3; field 2 would name required features.
_TF1_FORMAT_3 = b"\x08\x03"


class OpenModule:
    """A module directory that is leased, and one of its variants."""

    def __init__(self, path: str, lease: Lease | None, tags: Tags) -> None:
        self.path = path
        self._lease = lease
        #: the module is in the format of TensorFlow 1: made for `Module`, with losses and updates in collections
        self.is_tf1 = is_tf1(path)
        #: all variants; empty for a module in text form, which only TensorFlow can read
        self.graphs = read_graphs(path)
        #: the chosen one; None in text form
        self.graph = self._choose(_tag_set(tags))
        #: its tags, sorted; None: unknown, and the only ones
        self.tags = self.graph.tags if self.graph is not None else None if tags is None else _tag_set(tags)

    def keep_while(self, owner: object) -> None:
        """Keep the lease until `owner` is gone; without any owner it ends with the block of `open_module`."""
        lease, self._lease = self._lease, None
        if lease is not None:
            weakref.finalize(owner, lease.release)

    def release(self) -> None:
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.release()

    def _choose(self, wanted: tuple[str, ...] | None) -> MetaGraph | None:
        if not self.graphs:
            return None
        by_tags = {graph.tags: graph for graph in self.graphs}
        if wanted is None:
            candidates = [()] if self.is_tf1 else [self.graphs[0].tags] if len(by_tags) == 1 else [("serve",), ()]
            wanted = next((tags for tags in candidates if tags in by_tags), None)
            mistake = (
                "has several variants, so tags must name one" if not self.is_tf1 else "has no variant without tags"
            )
        else:
            mistake = f"has no variant with the tags {list(wanted)}"
        if wanted is None or wanted not in by_tags:
            named = ", ".join("{" + ", ".join(map(repr, variant)) + "}" for variant in sorted(by_tags))
            raise VariantNotFound(f"the module {mistake}; it has {named}")
        return by_tags[wanted]


@contextmanager
def open_module(handle: str | os.PathLike[str], tags: Tags = None) -> Iterator[OpenModule]:
    """The module, downloaded first if need be, leased for the block and on while the owner named to it lives.

    `tags` names one of its variants, exactly; None: the one without tags for a module in the TF1 format, else the only
    one, {"serve"}, or the one without tags.

    Raises what `resolve` raises, `VariantNotFound` that names the variants, `InputInvalid` for tags that are none,
    `NotAModule`, `ModuleUnsupported`.
    """
    path, lease = hold(handle)
    try:
        module = OpenModule(path, lease, tags)
    except BaseException:
        if lease is not None:
            lease.release()
        raise
    try:
        yield module
    finally:
        module.release()


def import_tensorflow(caller: str) -> Any:
    """TensorFlow; raises `TensorFlowMissing` in the name of the function that needs it."""
    try:
        import tensorflow
    except ModuleNotFoundError as error:
        if error.name != "tensorflow":
            raise
        raise tensorflow_missing(caller) from None
    return tensorflow


def tensorflow_missing(caller: str) -> TensorFlowMissing:
    return TensorFlowMissing(f"{caller} needs TensorFlow: pip install 'hubclient[tensorflow]'")


def _tag_set(tags: Tags) -> tuple[str, ...] | None:
    if tags is None or isinstance(tags, str):
        return None if tags is None else (tags,)
    given = set(tags) if isinstance(tags, Iterable) else {tags}
    if not all(isinstance(tag, str) for tag in given):
        raise InputInvalid(f"tags must be a string or a collection of strings, not {tags!r}")
    return tuple(sorted(given))


def is_tf1(path: str) -> bool:
    """Whether the module is in the format of TensorFlow 1. Raises `ModuleUnsupported` for a format after that."""
    try:
        with open(os.path.join(path, _TF1_MARK), "rb") as file:
            definition = file.read(64)
    except FileNotFoundError:
        return False
    if definition != _TF1_FORMAT_3:
        raise ModuleUnsupported(
            f"{path}/{_TF1_MARK} asks for another format of modules, or for features, than are known: "
            f"{definition.hex(' ')} instead of {_TF1_FORMAT_3.hex(' ')}"
        )
    return True


def read_graphs(path: str) -> list[MetaGraph]:
    """All variants; none of a module in text form. Raises `NotAModule`."""
    file = os.path.join(path, "saved_model.pb")
    try:
        return saved_model.read(file)
    except FileNotFoundError:
        if os.path.exists(file + "txt"):
            return []
        raise NotAModule(f"{path} has no saved_model.pb") from None
    except saved_model.SavedModelError as error:
        raise NotAModule(f"{file} cannot be read: {error}") from error

"""Models and what is known of them, without a library on the disk."""

from __future__ import annotations

from typing import Any

from hubclient.contract.saved_model import MetaGraph, Signature, TensorSpec
from hubd.publishing.card import card_of
from hubd.publishing.facts import Facts
from hubd.publishing.library import Model, Version
from hubd.publishing.listing import Entry

MODIFIED_AT = 1_770_000_000.0  # 2026-02-02


def dense(dtype: str, *shape: int | None) -> TensorSpec:
    return TensorSpec("t:0", dtype, shape, "dense")


SERVE = MetaGraph(
    ("serve",),
    {
        "serving_default": Signature(
            "tensorflow/serving/predict",
            {"x": dense("float32", None, 3)},
            {"y": dense("float32", None, 3)},
        ),
        "__saved_model_init_op": Signature("", {}, {"__saved_model_init_op": TensorSpec("init", "", (), "dense")}),
    },
)


def model_of(name: str, *numbers: int) -> Model:
    """The newest version first, as a library has them; one version unless they are named."""
    return Model(name, tuple(Version(name, number, f"/srv/{name}/{number}", False, MODIFIED_AT) for number in numbers))


def facts_of(name: str, number: int = 1, readme: str | None = None, **other: Any) -> Facts:
    """Of a small module with this README; `other` replaces facts."""
    card, body = card_of(readme, name)
    known: dict[str, Any] = {
        "version": model_of(name, number).versions[0],
        "meta_graphs": (SERVE,),
        "format": "saved_model",
        "files": (("saved_model.pb", 1_000_000), ("variables/variables.index", 1000)),
        "size_bytes": 1_001_000,
        "readme": body,
        "card": card,
        "digest": None,
        "archive_bytes": None,
        "common_signature": None,
        "is_fine_tunable": None,
    }
    return Facts(**(known | other))


def entry_of(name: str, readme: str | None = None, *numbers: int) -> Entry:
    model = model_of(name, *(numbers or (1,)))
    return Entry(model, facts_of(name, model.versions[0].number, readme))

"""The host's pages: the index of its modules, a page for each version, and what is said when there is none.

Law: a page is a function of what it shows. Nothing of a module, its names least of all, is anything but text in it;
and however many tensors, files or versions a module has, its page stays one that a browser can show.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from markupsafe import Markup

from hubclient.contract.common_signatures import common_signature
from hubclient.contract.quantities import format_size
from hubclient.contract.saved_model import MetaGraph, Signature, TensorSpec
from hubd.publishing import markdown
from hubd.publishing.facts import Facts
from hubd.publishing.library import Model
from hubd.publishing.listing import Entry, Query, public_signatures, search, url_of
from hubd.publishing.site import Site
from hubd.publishing.snippets import snippets

_KEPT_DOCUMENTS = 64  # rendered, of at most about 400 KB each
_MAX_FILES = 200
_MAX_VERSIONS = 100
_MAX_SIGNATURES = 50
_MAX_TENSORS = 100
_FORMATS = {"saved_model": "SavedModel", "tf1": "TF1 Hub module"}
_USUAL_TAGS = ((), ("serve",))


class _Tensor(NamedTuple):
    name: str
    dtype: str
    shape: str


class _Signature(NamedTuple):
    name: str
    common: str | None
    groups: tuple[tuple[str, tuple[_Tensor, ...]], ...]
    left_out: int


class _Variant(NamedTuple):
    title: str
    is_unusual: bool
    signatures: tuple[_Signature, ...]
    left_out: int


class Pages:
    """`base_url` is where clients reach the host, such as ``https://models.example.org``."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url.rstrip("/")
        self.site = Site(urlsplit(self.base_url).path)
        self._rendered = lru_cache(_KEPT_DOCUMENTS)(markdown.render)

    def index(self, entries: Iterable[Entry], query: Query) -> str:
        """The modules that fit the query, with the form that asks for others."""
        return self.site.render("index.html", query=query, found=search(entries, query))

    def model(self, facts: Facts, model: Model) -> str:
        """The documentation of one version. Renders what its author wrote, so it blocks: call it in a thread."""
        version = facts.version
        title = facts.card.title or model.name
        url = url_of(self.base_url, model.name, version.number)
        documentation = self._rendered(facts.readme, title=title) if facts.readme else Markup()
        page = {
            "title": title,
            "lead": _lead(facts, documentation),
            "url": url,
            "tags": [tag for tag in dict.fromkeys((facts.card.task, *facts.card.tags)) if tag],
            "facts": [fact for fact in _facts(facts) if fact[1]],
            "versions": model.versions[:_MAX_VERSIONS],
            "download": f"{url_of(self.site.root, model.name, version.number)}?tf-hub-format=compressed",
            "file_name": f"{model.name.rpartition('/')[2]}-{version.number}.tar.gz",
            "snippets": snippets(url, digest=facts.digest, is_fine_tunable=facts.is_fine_tunable),
            "documentation": documentation,
            "variants": [_variant(graph) for graph in facts.meta_graphs],
            "files": sorted(facts.files, key=lambda file: (-file[1], file[0]))[:_MAX_FILES],
        }
        return self.site.render("model.html", facts=facts, model=model, page=page)

    def error(self, status: int, text: str) -> str:
        """What went wrong, for a person."""
        return self.site.render("error.html", status=status, phrase=HTTPStatus(status).phrase, text=text)


def _lead(facts: Facts, documentation: Markup) -> str | None:
    """The description, unless it was taken from the text that stands below it anyway."""
    description = facts.card.description
    is_below = description and description.removesuffix(" ...") in documentation.striptags()
    return None if is_below else description


def _facts(facts: Facts) -> Iterator[tuple[str, Any, bool]]:
    """Name, value, and whether it is code; what is not known is left out."""
    yield "Format", _FORMATS.get(facts.format, facts.format), False
    yield "Signature", facts.common_signature, False
    yield "Fine-tunable", {True: "yes", False: "no", None: None}[facts.is_fine_tunable], False
    yield "Variants", "; ".join(map(_tags, facts.meta_graphs)) if len(facts.meta_graphs) > 1 else None, False
    yield "Size", format_size(facts.size_bytes), False
    yield "Modified", datetime.fromtimestamp(facts.version.modified_at, UTC).strftime("%Y-%m-%d"), False
    yield "License", facts.card.license, False
    yield "Digest", facts.digest, True


def _variant(graph: MetaGraph) -> _Variant:
    names = public_signatures(graph.signatures)
    shown = names[:_MAX_SIGNATURES]
    return _Variant(
        f"Variant {_tags(graph)}",
        graph.tags not in _USUAL_TAGS,
        tuple(_signature(name, graph.signatures[name]) for name in shown),
        len(names) - len(shown),
    )


def _tags(graph: MetaGraph) -> str:
    return ", ".join(graph.tags) or "without tags"


def _signature(name: str, signature: Signature) -> _Signature:
    sides = (("Inputs", signature.inputs), ("Outputs", signature.outputs))
    groups = tuple((label, tuple(_tensors(specs))[:_MAX_TENSORS]) for label, specs in sides if specs)
    left_out = sum(max(0, len(specs) - _MAX_TENSORS) for _, specs in sides)
    return _Signature(name, common_signature(name, signature), groups, left_out)


def _tensors(specs: Mapping[str, TensorSpec]) -> Iterator[_Tensor]:
    for name, spec in sorted(specs.items()):
        shape = "any" if spec.shape is None else f"({', '.join('?' if n is None else str(n) for n in spec.shape)})"
        yield _Tensor(name, f"{'' if spec.encoding == 'dense' else spec.encoding + ' '}{spec.dtype}", shape)

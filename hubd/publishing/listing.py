"""Which modules fit what somebody looks for: the same for the index and for programs. Pure functions and their answers.

Law: the order is that of the names, and a page begins after a name; so a module that comes or goes meanwhile neither
hides another nor shows it twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from typing import NamedTuple
from urllib.parse import quote, urlencode

from pydantic import Field

from hubclient.contract.errors import RequestInvalid
from hubd.api.messages import Answer
from hubd.publishing.facts import Facts
from hubd.publishing.library import Model

MAX_LIMIT = 200
_DEFAULT_LIMIT = 50
_MAX_CHARACTERS = 500


class Entry(NamedTuple):
    """A module as the index shows it."""

    model: Model
    facts: Facts | None  #: of its newest version; None as long as they are not known

    @property
    def title(self) -> str:
        return (self.facts.card.title if self.facts else "") or self.model.name

    @property
    def task(self) -> str:
        return (self.facts.card.task if self.facts else "") or ""

    @property
    def publisher(self) -> str:
        return self.model.name.rpartition("/")[0]


@dataclass(frozen=True)
class Query:
    """What is looked for: all of the words, and exactly this task and publisher, where they are not empty."""

    q: str = ""
    task: str = ""
    publisher: str = ""
    after: str = ""  #: the name that the page begins after
    limit: int = _DEFAULT_LIMIT

    @staticmethod
    def parse(parameters: Mapping[str, str]) -> Query:
        """From a URL. Raises `RequestInvalid`; other parameters are nobody's concern."""
        texts = {name: parameters.get(name, "").strip() for name in ("q", "task", "publisher", "after")}
        if any(len(text) > _MAX_CHARACTERS for text in texts.values()):
            raise RequestInvalid(f"a parameter has more than {_MAX_CHARACTERS} characters")
        limit = parameters.get("limit") or str(_DEFAULT_LIMIT)
        if not (limit.isascii() and limit.isdigit() and len(limit) <= 4 and 1 <= int(limit) <= MAX_LIMIT):
            raise RequestInvalid(f"limit must be a whole number from 1 to {MAX_LIMIT}")
        return Query(**texts, limit=int(limit))

    @property
    def is_all(self) -> bool:
        return not (self.q or self.task or self.publisher)

    @property
    def query_string(self) -> str:
        """`?q=...`, or nothing."""
        stated = {name: getattr(self, name) for name in ("q", "task", "publisher", "after") if getattr(self, name)}
        if self.limit != _DEFAULT_LIMIT:
            stated["limit"] = str(self.limit)
        return f"?{urlencode(stated)}" if stated else ""

    def with_after(self, name: str) -> Query:
        return replace(self, after=name)


class Found(NamedTuple):
    entries: tuple[Entry, ...]  #: one page of them
    next: str | None  #: what the next page begins after; None if this is the last
    total: int
    tasks: tuple[tuple[str, int], ...]  #: those of all modules, each with how many
    publishers: tuple[tuple[str, int], ...]


class ListedModel(Answer):
    """A module, told by its newest version. What is not known of it is null."""

    name: str
    publisher: str
    latest: int
    versions: list[int] = Field(description="the newest first")
    url: str = Field(description="of the newest version: the handle to load, and its documentation for browsers")
    title: str
    task: str | None
    description: str | None
    license: str | None
    tags: list[str]
    format: str | None
    size_bytes: int | None = Field(description="of the unpacked module")
    archive_bytes: int | None = Field(description="null until it was packed for the first time")
    digest: str | None = Field(
        description="sha256: and the hex sha256 of the archive; null until it was packed for the first time"
    )
    signatures: list[str] = Field(description="the names of those that its publisher made, over all variants")
    common_signature: str | None = Field(description="the one of TensorFlow Hub's common signatures that it meets")
    is_fine_tunable: bool | None
    modified_at: datetime


class ModelList(Answer):
    models: list[ListedModel]
    next: str | None = Field(description="ask again with `after` set to it; null on the last page")
    total: int = Field(description="of all pages")


def search(entries: Iterable[Entry], query: Query) -> Found:
    """One page of the modules that fit. `entries` are in any order."""
    every = sorted(entries, key=lambda entry: entry.model.name)
    fitting = [entry for entry in every if _fits(entry, query)]
    rest = (entry for entry in fitting if entry.model.name > query.after)
    page = tuple(islice(rest, query.limit))
    is_last = next(rest, None) is None
    return Found(
        page,
        None if is_last else page[-1].model.name,
        len(fitting),
        _counted(entry.task for entry in every),
        _counted(entry.publisher for entry in every),
    )


def listed(found: Found, base_url: str) -> ModelList:
    """The same for programs; `base_url` is where the host is reached, without a slash at its end."""
    return ModelList(models=[_listed(entry, base_url) for entry in found.entries], next=found.next, total=found.total)


def url_of(base_url: str, model: str, number: int) -> str:
    """The handle of a version."""
    return f"{base_url}/{quote(model)}/{number}"


def public_signatures(names: Iterable[str]) -> list[str]:
    """Those that the publisher made, sorted; TensorFlow adds others for itself, to restore variables for instance."""
    return sorted(name for name in names if not name.startswith("__saved_model_"))


def _fits(entry: Entry, query: Query) -> bool:
    if (query.task and entry.task != query.task) or (query.publisher and entry.publisher != query.publisher):
        return False
    if not query.q:
        return True
    card = entry.facts.card if entry.facts else None
    texts: Sequence[str | None] = (card.title, card.task, card.description, *card.tags) if card else ()
    haystack = " ".join((entry.model.name, *filter(None, texts))).casefold()
    return all(word in haystack for word in query.q.casefold().split())


def _counted(values: Iterable[str]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(Counter(value for value in values if value).items()))


def _listed(entry: Entry, base_url: str) -> ListedModel:
    newest, facts = entry.model.versions[0], entry.facts
    names = {name for graph in facts.meta_graphs for name in graph.signatures} if facts else set()
    return ListedModel(
        name=entry.model.name,
        publisher=entry.publisher,
        latest=newest.number,
        versions=[version.number for version in entry.model.versions],
        url=url_of(base_url, entry.model.name, newest.number),
        title=entry.title,
        task=entry.task or None,
        description=(facts.card.description or None) if facts else None,
        license=(facts.card.license or None) if facts else None,
        tags=list(facts.card.tags) if facts else [],
        format=facts.format if facts else None,
        size_bytes=facts.size_bytes if facts else None,
        archive_bytes=facts.archive_bytes if facts else None,
        digest=facts.digest if facts else None,
        signatures=public_signatures(names),
        common_signature=facts.common_signature if facts else None,
        is_fine_tunable=facts.is_fine_tunable if facts else None,
        modified_at=datetime.fromtimestamp(newest.modified_at, UTC),
    )

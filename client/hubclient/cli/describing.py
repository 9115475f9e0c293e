"""What `hubctl show` says of a module. Pure functions.

Law: what is not known is not said, and nothing stands for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from hubclient.cli.listing import when
from hubclient.cli.names import of_uids
from hubclient.cli.signature_text import public, tensors
from hubclient.cli.wording import count, printable, size
from hubclient.contract.common_signatures import common_signature
from hubclient.contract.saved_model import MetaGraph

SHOWN_FILES = 5
LABEL_WIDTH = 15

_FORMATS = {"saved_model": "SavedModel", "tf1": "TF1 Hub module"}


class Line(NamedTuple):
    """A line of which the first part stands out."""

    label: str
    text: str = ""


def describe(
    facts: dict[str, Any], graphs: Sequence[MetaGraph], now: datetime | None, *, all_files: bool
) -> Iterator[Line]:
    """All that is known, as lines; times are exact, and with `now` also told from there."""
    for name, text in _rows(facts, now):
        if text is not None:
            yield Line(f"{name:<{LABEL_WIDTH}} ", printable(text))
    yield Line("")
    yield from _files(facts["files"], all_files=all_files)
    for graph in graphs:
        yield Line("")
        yield from _variant(graph)
    if not graphs:
        yield Line("")
        yield Line("", "the signatures are in text form (saved_model.pbtxt), which only TensorFlow reads")


def _rows(facts: dict[str, Any], now: datetime | None) -> Iterator[tuple[str, str | None]]:
    def time(name: str) -> str | None:
        if (iso := facts.get(name)) is None:
            return None
        return when(iso, None) + ("" if now is None else f" ({when(iso, now)})")

    def yes(name: str) -> str | None:
        return {True: "yes", False: "no", None: None}[facts.get(name)]

    def digest(name: str) -> str | None:
        return None if facts.get(name) is None else f"sha256:{facts[name]}"

    yield "handle", facts.get("handle")
    yield "path", facts["path"]
    yield "digest", digest("digest")
    yield "content digest", digest("content_digest")
    yield "format", _FORMATS.get(facts["format"], facts["format"])
    yield "size", _sizes(facts)
    yield "origin", facts.get("origin")
    yield "etag", facts.get("etag")
    yield "fetched", time("fetched_at")
    yield "last used", time("last_used_at")
    yield "pinned", yes("pinned")
    yield "pinned by", ", ".join(facts.get("pinned_by") or ()) or None
    yield "leased", yes("leased")
    yield "private to", of_uids([facts["reader"]]) if facts.get("reader") is not None else None
    yield "users", of_uids(facts.get("users") or ()) or None
    for spelling in facts.get("spellings") or ():
        if spelling != facts.get("handle"):
            yield "asked for as", spelling
    for handle in facts.get("shared_with") or ():
        yield "same content", handle


def _sizes(facts: dict[str, Any]) -> str:
    text = f"{size(facts['size_bytes'])} in {count(len(facts['files']), 'file')}"
    if facts.get("disk_bytes") is not None:
        text += f", {size(facts['disk_bytes'])} on disk"
    if facts.get("archive_bytes") is not None:
        text += f", from an archive of {size(facts['archive_bytes'])}"
    return text


def _files(files: dict[str, dict[str, Any]], *, all_files: bool) -> Iterator[Line]:
    ordered = sorted(files.items(), key=lambda file: (-file[1]["size_bytes"], file[0]))
    shown = ordered if all_files or len(ordered) <= SHOWN_FILES + 1 else ordered[:SHOWN_FILES]
    yield Line("files")
    sizes = [size(entry["size_bytes"]) for _, entry in shown]
    width = max(map(len, sizes), default=0)
    for (path, _), text in zip(shown, sizes, strict=True):
        yield Line("", f"  {text:>{width}}  {printable(path)}")
    if len(shown) < len(ordered):
        yield Line("", f"  and {len(ordered) - len(shown):,} more, which --files shows")


def _variant(graph: MetaGraph) -> Iterator[Line]:
    tags = ", ".join(map(printable, graph.tags))
    yield Line(f"variant {tags}" if tags else "variant without tags")
    signatures = public(graph.signatures)
    if not signatures:
        yield Line("", "  no signatures")
    for name, signature in signatures.items():
        common = common_signature(name, signature)
        yield Line(f"  {printable(name)}", f": {common}" if common else "")
        for line in tensors(signature):
            yield Line("", f"    {line}")

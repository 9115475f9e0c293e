"""What a module's README says of it in few words: the fields before its text, or else the text's own first words.

Law: every README has a card. A field is taken if it is plainly one, in the little of YAML that model cards are written
in (``key: value``, quoted or not, ``[a, b]``, lists of lines, folded text); what is not is passed over, never guessed.

The fields are those of Hugging Face's model cards, and of tfhub.dev's pages (``<!-- task: text-embedding -->``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_MAX_FIELD_LINES = 500
_MAX_TEXT = 300  # characters of a title, a description, ...
_MAX_TAGS = 30

_FENCE = "---"
_KEY = re.compile(r"([A-Za-z][A-Za-z0-9_-]*):(?:[ \t]+(.*))?")
_ITEM = re.compile(r"[ \t]*-[ \t]+(.*)")
_COMMENT = re.compile(r"<!--[ \t]*([a-z-]+):[ \t]*([^<>\n]*?)[ \t]*-->")
_HEADING = re.compile(r"#[ \t]+(.+?)[ \t#]*")
_NO_PROSE = re.compile(r"[ \t]*(?:[#>|<`~*+=-]|\d+[.)] |!\[|\[[^\]]*\]:)")
_LINK = re.compile(r"!?\[([^\]\n]*)\]\([^)\n]*\)")
_MARKS = re.compile(r"[*`]+|(?<!\w)_+|_+(?!\w)")

Value = str | tuple[str, ...]


class Card(NamedTuple):
    title: str
    task: str | None = None  #: "text-embedding"
    description: str | None = None  #: a sentence or two, without markup
    license: str | None = None
    tags: tuple[str, ...] = ()


def card_of(readme: str | None, name: str) -> tuple[Card, str | None]:
    """The card of a README, and what of it is text. `name` is the module's, for want of a title."""
    if readme is None:
        return Card(title=name), None
    fields, body = _parted(readme)
    for key, text in _COMMENT.findall(body):
        fields.setdefault(key, text)
    tags = fields.get("tags", fields.get("keywords", ()))
    card = Card(
        title=_text(fields, "title", "model_name") or _heading(body) or name,
        task=_text(fields, "task", "pipeline_tag"),
        description=_text(fields, "description", "summary") or _first_words(body),
        license=_text(fields, "license"),
        tags=tuple(map(_shortened, (tags,) if isinstance(tags, str) else tags))[:_MAX_TAGS],
    )
    return card, body


def _parted(readme: str) -> tuple[dict[str, Value], str]:
    """The fields and the rest; no fields where nothing ends them."""
    lines = readme.removeprefix("\ufeff").splitlines()
    if not lines or lines[0].rstrip() != _FENCE:
        return {}, readme
    for end in range(1, min(len(lines), _MAX_FIELD_LINES)):
        if lines[end].rstrip() in (_FENCE, "..."):
            return dict(_fields(lines[1:end])), "\n".join(lines[end + 1 :]).lstrip("\n")
    return {}, readme


def _fields(lines: list[str]) -> Iterator[tuple[str, Value]]:
    for at, line in enumerate(lines):
        if (found := _KEY.fullmatch(line.rstrip())) is None:
            continue
        key, stated = found[1].lower(), (found[2] or "").strip()
        below = _below(lines[at + 1 :])
        if stated in (">", "|", ">-", "|-", ">+", "|+"):
            yield key, " ".join(map(str.strip, below)).strip()
        elif stated.startswith("["):
            if stated.endswith("]"):
                yield key, tuple(filter(None, map(_unquoted, stated[1:-1].split(","))))
        elif stated:
            yield key, _unquoted(stated)
        else:
            items = [item for item in map(_ITEM.fullmatch, below) if item is not None]
            yield key, tuple(filter(None, (_unquoted(item[1]) for item in items)))


def _below(lines: list[str]) -> list[str]:
    """The lines that belong to the key before them: indented ones, and items of a list."""
    taken = []
    for line in lines:
        if line.strip() and not line.startswith((" ", "\t", "- ")):
            break
        taken.append(line.rstrip())
    return taken


def _unquoted(text: str) -> str:
    text = text.strip()
    if text[:1] in "\"'" and len(text) > 1 and text.endswith(text[0]):
        return text[1:-1].strip()
    return text.partition(" #")[0].strip()


def _text(fields: dict[str, Value], *keys: str) -> str | None:
    """The first of these that is a text, and not empty."""
    found = (fields.get(key) for key in keys)
    return next((_shortened(value) for value in found if isinstance(value, str) and value.strip()), None)


def _heading(body: str) -> str | None:
    found = next(filter(None, map(_HEADING.fullmatch, body.splitlines())), None)
    return _shortened(_plain(found[1])) or None if found is not None else None


def _first_words(body: str) -> str | None:
    """The first paragraph that is prose."""
    for paragraph in re.split(r"\n[ \t]*\n", body):
        if paragraph.strip() and not _NO_PROSE.match(paragraph):
            return _shortened(_plain(paragraph)) or None
    return None


def _plain(text: str) -> str:
    return _MARKS.sub("", _LINK.sub(r"\1", text))


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT].rpartition(" ")[0] + " ..."

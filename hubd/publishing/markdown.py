"""What a module's author wrote, as HTML that may stand in a page.

Law: of the author's text nothing acts: no script, style, form, picture or frame, no name that collides with the page's
own, and nothing that a browser would load by itself. What is not known to be harmless is left out, and its words stay.

Markdown is rendered first, HTML in it included, and then taken apart by a parser of HTML and put together from what is
allowed alone; so broken or unclosed tags end where the text ends. Pictures become links: shown, they would tell another
server who reads the page.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import OptionsDict
from markupsafe import Markup, escape

MAX_CHARACTERS = 100_000  # rendering takes about half a second, and of the worst text several

_TAGS = frozenset(
    "h2 h3 h4 h5 h6 p br hr ul ol li dl dt dd blockquote pre code kbd samp var"  # noqa: SIM905 a list has 46 lines
    " em strong b i u s del ins sub sup small mark q abbr a"
    " table thead tbody tfoot tr th td caption details summary div span".split()
)
# What is in these is no text.
_DROPPED = frozenset(
    {"script", "style", "template", "noscript", "iframe", "object", "svg", "math", "title", "textarea"}
)
_ATTRIBUTES = {
    "a": {"href", "title"},
    "ol": {"start"},
    "th": {"colspan", "rowspan", "scope", "align"},
    "td": {"colspan", "rowspan", "align"},
    "abbr": {"title"},
    "div": {"class"},
    "h2": {"id"},
    "h3": {"id"},
    "h4": {"id"},
    "h5": {"id"},
    "h6": {"id"},
}
_ID_PREFIX = "doc-"  # no id of the page's own begins with it
_SCHEMES = {"http", "https", "mailto"}
_PLACE = re.compile(r"#|/(?!/)|(?:https?|mailto):", re.IGNORECASE)


def render(text: str, *, title: str = "") -> Markup:
    """The document below the page's own heading; its first heading is left out if it only repeats the `title`.

    Text past `MAX_CHARACTERS` is left out, and that is said. Blocks: call it in a thread.
    """
    parser = MarkdownIt("commonmark", {"html": True, "maxNesting": 20}).enable(["table", "strikethrough"])
    parser.add_render_rule("image", _picture)
    parser.add_render_rule("th_open", _cell)
    parser.add_render_rule("td_open", _cell)
    parser.add_render_rule("table_open", lambda *_: '<div class="scroll"><table>\n')
    parser.add_render_rule("table_close", lambda *_: "</table></div>\n")
    tokens = parser.parse(text[:MAX_CHARACTERS])
    html = parser.renderer.render(_headed(tokens, title), parser.options, {})
    clean = nh3.clean(
        html,
        tags=set(_TAGS),
        clean_content_tags=set(_DROPPED),
        attributes=_ATTRIBUTES,
        attribute_filter=_attribute,
        link_rel="noopener nofollow ugc",
        url_schemes=_SCHEMES,
        url_relative="pass_through",
    )
    # What scrolls has to be reached by the keyboard.
    reachable = clean.replace(
        '<div class="scroll">', '<div class="scroll" tabindex="0" role="group" aria-label="Table">'
    )
    reachable = reachable.replace("<pre>", '<pre tabindex="0">')
    cut = "<p>The rest is too long to be shown.</p>" if len(text) > MAX_CHARACTERS else ""
    return Markup(reachable + cut)  # noqa: S704 what nh3 made of it


def _headed(tokens: list[Token], title: str) -> list[Token]:
    """Headings one below the page's, none deeper than its place allows, each with an id."""
    used: set[str] = set()
    outline: list[int] = []  # the levels, as they were written, of the headings that the place is under
    shown: list[Token] = []
    skipped = 0
    for place, token in enumerate(tokens):
        if skipped:
            skipped -= 1
            continue
        if token.type == "heading_open":
            words = tokens[place + 1].content
            if not used and token.tag == "h1" and words.strip().casefold() == title.strip().casefold():
                skipped = 2  # its text and its end
                used.add("")
                continue
            level = int(token.tag[1])
            outline = [*(above for above in outline if above < level), level]
            used.add(name := _unused(_slug(words), used))
            token.attrs = {"id": _ID_PREFIX + name}
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(len(outline) + 1, 6)}"
        shown.append(token)
    return shown


def _slug(words: str) -> str:
    return re.sub(r"[^\w]+", "-", words.casefold()).strip("-")[:80] or "section"


def _unused(name: str, used: set[str]) -> str:
    number = 1
    while (unused := name if number == 1 else f"{name}-{number}") in used:
        number += 1
    return unused


def _cell(self: RendererHTML, tokens: Sequence[Token], place: int, options: OptionsDict, environment: Any) -> str:
    """The column's alignment as an attribute: the policy of the pages allows no style of an element's own."""
    style = str(tokens[place].attrs.pop("style", ""))
    if style:
        tokens[place].attrs["align"] = style.removeprefix("text-align:")
    return self.renderToken(tokens, place, options, environment)


def _picture(self: RendererHTML, tokens: Sequence[Token], place: int, options: OptionsDict, environment: Any) -> str:
    token = tokens[place]
    words = self.renderInlineAsText(token.children, options, environment) if token.children else ""
    source = str(token.attrs.get("src", ""))
    if not source.lower().startswith(("http:", "https:")):
        return str(escape(words))
    return f'<a href="{escape(source)}">{escape(words or "picture")}</a>'


def _attribute(tag: str, attribute: str, value: str) -> str | None:
    match tag, attribute:
        case "a", "href" if not _PLACE.match(value):
            return None  # beside the page there are no files of the module
        case "a", "href" if value.startswith("#"):
            return f"#{_ID_PREFIX}{value[1:].removeprefix(_ID_PREFIX)}"
        case "div", "class":
            return value if value == "scroll" else None
        case _, "id":
            return value if value.startswith(_ID_PREFIX) else None
    return value

"""What a module's author wrote becomes text in a page, and never anything that acts."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hubd.publishing import markdown

ALLOWED = re.compile(r"</?([a-z0-9]+)((?: [a-z-]+=\"[^\"<>]*\")*)>")
LOADING = re.compile(r"<(script|style|img|svg|iframe|object|embed|form|input|link|meta|base|video|audio|math)\b", re.I)


def test_markdown_becomes_html() -> None:
    html = markdown.render("A *word* and `code`.\n\n- one\n- two\n\n```python\nx = 1\n```\n")
    assert "<p>A <em>word</em> and <code>code</code>.</p>" in html
    assert "<li>one</li>" in html
    assert '<pre tabindex="0"><code>x = 1\n</code></pre>' in html


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<SCRIPT SRC=https://evil.example/x.js></SCRIPT>",
        "<img src=x onerror=alert(1)>",
        "![p](https://evil.example/pixel.png)",
        "![p](data:image/svg+xml;base64,AAAA)",
        "[x](javascript:alert(1))",
        '<a href="java\tscript:alert(1)">x</a>',
        "[x](data:text/html,<script>alert(1)</script>)",
        "<style>body { display: none }</style>",
        '<p style="position:fixed;inset:0">x</p>',
        '<p onclick="alert(1)" class="skip" id="main">x</p>',
        "<iframe src=https://evil.example></iframe>",
        "<form action=https://evil.example><input name=q></form>",
        "<svg><script>alert(1)</script></svg>",
        "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
        "<meta http-equiv=refresh content='0;url=https://evil.example'>",
        "<base href=https://evil.example>",
        "<link rel=stylesheet href=https://evil.example/x.css>",
        "</article></main></body><h1>mine</h1>",
        "<!-- --><a href='vbscript:x'>x</a> <![CDATA[<script>]]>",
        "`<script>`\n\n    <script>alert(1)</script>\n",
    ],
)
def test_nothing_in_it_acts(text: str) -> None:
    html = markdown.render(text)
    assert not LOADING.search(html)
    assert not re.search(r"<[^>]*\b(on\w+|style|src)=", html)
    assert not re.search(r'href="(?!https?:|mailto:|#|/)', html)
    assert not re.search(r"</?(main|body|article|h1)\b", html)


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("<>/\"'=`*_[]()!#|-\n &;aAimgscriptonerror:x1"), max_size=200))
def test_whatever_is_written_comes_out_as_tags_that_are_allowed(text: str) -> None:
    html = markdown.render(text)
    rest = ALLOWED.sub(lambda tag: "" if tag[1] in markdown._TAGS else tag[0], html)
    assert "<" not in rest


def test_links_lead_out_without_a_word_of_where_from() -> None:
    assert '<a href="https://a.example" rel="noopener nofollow ugc">x</a>' in markdown.render("[x](https://a.example)")


def test_a_link_to_a_file_beside_it_is_text() -> None:
    assert markdown.render("[the code](src/train.py)") == '<p><a rel="noopener nofollow ugc">the code</a></p>\n'


def test_a_picture_is_a_link_to_it() -> None:
    html = markdown.render("![a <cat>](https://a.example/cat.png)")
    assert '<a href="https://a.example/cat.png" rel="noopener nofollow ugc">a &lt;cat&gt;</a>' in html


def test_headings_stand_below_the_pages_own_and_leave_out_no_level() -> None:
    html = markdown.render("# One\n\n#### Deep\n\n## Two\n\n## Three\n")
    assert re.findall(r"<(h\d) id=\"([^\"]*)\">", html) == [
        ("h2", "doc-one"),
        ("h3", "doc-deep"),
        ("h3", "doc-two"),
        ("h3", "doc-three"),
    ]
    html = markdown.render("# T\n\n## One\n\n## Two\n\n### Below\n", title="T")
    assert re.findall(r"<(h\d)", html) == ["h2", "h2", "h3"]


def test_a_first_heading_that_repeats_the_title_is_left_out() -> None:
    assert markdown.render("# Half plus two\n\nText.\n", title="half plus two") == "<p>Text.</p>\n"


def test_links_within_the_document_arrive() -> None:
    html = markdown.render("[to it](#usage)\n\n# A\n\n## Usage\n\n## Usage\n")
    assert 'href="#doc-usage"' in html
    assert 'id="doc-usage"' in html
    assert 'id="doc-usage-2"' in html


def test_a_table_scrolls_in_a_box_of_its_own_that_the_keyboard_reaches() -> None:
    html = markdown.render("| a | b |\n|---|---|\n| 1 | 2 |\n")
    assert '<div class="scroll" tabindex="0" role="group" aria-label="Table"><table>' in html


def test_columns_keep_their_alignment() -> None:
    html = markdown.render("| a | b |\n|---|--:|\n| 1 | 2 |\n")
    assert '<td align="right">2</td>' in html
    assert "<td>1</td>" in html


def test_what_is_too_long_is_cut_and_said_to_be() -> None:
    html = markdown.render("word " * 100_000)
    assert len(html) < 110_000
    assert html.endswith("<p>The rest is too long to be shown.</p>")


@pytest.mark.parametrize("piece", ["[", "![a](", "> ", "* ", "<div>", "`", "|a", "**a ", "<!-- ", "&#", "[a]: b\n"])
def test_rendering_ends_soon_whatever_is_written(piece: str) -> None:
    start = time.monotonic()
    markdown.render(piece * (40_000 // len(piece)))
    assert time.monotonic() - start < 10

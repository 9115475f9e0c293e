"""What a README says of its module in few words."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hubd.publishing.card import Card, card_of

_CARD = """---
title: "A: quoted title"
pipeline_tag: text-embedding   # the task
license: apache-2.0
tags:
- english
  - 'news'
description: >-
  Folded text
  of two lines.
nested:
  title: not this one
---

# Heading

Words.
"""


def test_fields_before_the_text_are_the_card() -> None:
    card, body = card_of(_CARD, "lab/m")
    folded = "Folded text of two lines."
    assert card == Card("A: quoted title", "text-embedding", folded, "apache-2.0", ("english", "news"))
    assert body == "# Heading\n\nWords."


def test_tags_may_stand_in_one_line() -> None:
    assert card_of("---\ntags: [a, 'b c', ]\n---\n", "m")[0].tags == ("a", "b c")
    assert card_of("---\ntags: single\n---\n", "m")[0].tags == ("single",)


def test_without_fields_the_first_words_of_the_text_are_the_card() -> None:
    readme = (
        "![logo](x.png)\n\n## Not this\n# The *title* #\n\n| a | b |\n\nSee [the `paper`](http://x) for\n_more_.\n\nNo."
    )
    card, body = card_of(readme, "lab/m")
    assert card == Card("The title", description="See the paper for more.")
    assert body == readme


def test_comments_of_tfhub_dev_are_fields() -> None:
    card, _ = card_of("# Module google/nnlm/1\n\nToken based.\n\n<!-- task: text-embedding -->\n", "google/nnlm")
    assert card == Card("Module google/nnlm/1", "text-embedding", "Token based.")


def test_without_a_readme_the_name_is_the_title() -> None:
    assert card_of(None, "lab/m") == (Card("lab/m"), None)
    assert card_of("", "lab/m") == (Card("lab/m"), "")


def test_fields_that_nothing_ends_are_text() -> None:
    text = "---\ntitle: x\n\n# Heading\n"
    assert card_of(text, "m") == (Card("Heading"), text)


@given(st.text(alphabet=st.sampled_from("-: \n#[]'\"abc>|<!_*`\t\r\ufeff\u2028")))
def test_every_text_has_a_card_of_bounded_size(text: str) -> None:
    for readme in (text, f"---\n{text}\n---\n{text}"):
        card, body = card_of(readme, "m")
        assert card.title
        assert body is not None
        assert all(value is None or value.strip() for value in (card.task, card.description, card.license))


def test_what_is_too_long_is_cut() -> None:
    card, _ = card_of("---\ntitle: " + "word " * 10_000 + "\n---\n" + "long " * 10_000, "m")
    assert len(card.title) < 310
    assert len(card.description or "") < 310

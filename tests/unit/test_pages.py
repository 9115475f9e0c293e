"""The host's pages show what is known of modules, as text."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser

import pytest

from hubclient.contract.handles import canonical
from hubclient.contract.saved_model import MetaGraph, Signature, TensorSpec
from hubd.publishing.listing import Entry, Query
from hubd.publishing.pages import Pages
from tests.support.model_facts import SERVE, dense, entry_of, facts_of, model_of

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7*7 }}"
PAGES = Pages("https://h.example/hub")


def text_of(page: str) -> str:
    """Its words, without tags, with single spaces."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page)).split())


def page_of(readme: str | None = None, **other: object) -> str:
    return PAGES.model(facts_of("lab/m", 2, readme, **other), model_of("lab/m", 3, 2, 1))


class Elements(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def test_a_page_shows_signatures_with_types_and_shapes() -> None:
    text = text_of(page_of())
    assert "serving_default" in text
    assert "Inputs x float32 (?, 3)" in text
    assert "Outputs y float32 (?, 3)" in text
    assert "__saved_model_init_op" not in text


def test_a_page_shows_facts_that_are_known_and_no_others() -> None:
    digest = "sha256:" + "ab" * 32
    text = text_of(page_of(digest=digest, is_fine_tunable=True, common_signature="text embedding"))
    for fact in (
        "Format SavedModel",
        "Signature text embedding",
        "Fine-tunable yes",
        "Size 1.0 MB",
        f"Digest {digest}",
    ):
        assert fact in text
    text = text_of(page_of())
    for name in ("Fine-tunable", "License", "Digest"):
        assert name not in text


def test_variants_are_named_when_there_are_several() -> None:
    train = MetaGraph(("serve", "train"), SERVE.signatures)
    text = text_of(page_of(meta_graphs=(SERVE, train)))
    assert "Variants serve; serve, train" in text
    assert "Variant serve, train" in text
    assert "Variant serve" not in text_of(page_of())


def test_unknown_ranks_and_sparse_tensors_are_told_apart() -> None:
    odd = Signature("", {"a": TensorSpec("", "int64", None, "sparse"), "b": dense("string")}, {})
    text = text_of(page_of(meta_graphs=(MetaGraph(("serve",), {"f": odd}),)))
    assert "a sparse int64 any" in text
    assert "b string ()" in text


def test_a_module_in_text_form_says_that_only_tensorflow_reads_it() -> None:
    assert "only TensorFlow reads" in text_of(page_of(meta_graphs=()))


def test_versions_link_to_one_another_and_an_old_one_names_the_newest() -> None:
    links = Elements(page_of()).all("a")
    assert {"href": "/hub/lab/m/2", "aria-current": "page"} in links
    assert {"href": "/hub/lab/m/1"} in links
    assert "This is not the newest version: there is version 3" in text_of(page_of())
    newest = PAGES.model(facts_of("lab/m", 3), model_of("lab/m", 3, 2))
    assert "not the newest" not in newest
    assert {"rel": "canonical", "href": "https://h.example/hub/lab/m/3"} in Elements(newest).all("link")


def test_code_to_copy_names_the_version_and_what_is_known_of_it() -> None:
    text = text_of(page_of(digest="sha256:ab", is_fine_tunable=True))
    assert 'import hubclient as hub model = hub.load("https://h.example/hub/lab/m/2")' in text
    assert 'hub.Module("https://h.example/hub/lab/m/2", trainable=True)' in text
    assert 'hub.KerasLayer("https://h.example/hub/lab/m/2", trainable=True)' in text
    assert "hubctl get --digest sha256:ab https://h.example/hub/lab/m/2" in text
    assert "hubctl lock https://h.example/hub/lab/m/2 -o hub.lock" in text
    assert "trainable" not in page_of(is_fine_tunable=False)


def test_code_to_copy_is_code_whatever_the_name() -> None:
    name = "lab/" + HOSTILE.replace("/", "") + " $(reboot) `reboot` \\ \u202e"
    codes = re.findall(r"<pre[^>]*><code>(.*?)</code></pre>", PAGES.model(facts_of(name), model_of(name, 1)), re.S)
    assert len(codes) == 5
    for code in map(unescape, codes[:3]):
        compile(code, "snippet", "exec")
        assert canonical(code.split('"')[1]).endswith("/1")
    for code in map(unescape, codes[3:]):
        assert not re.search(r"[\\$`'\"<>|;&()]", code)


@pytest.mark.parametrize("kind", ["index", "model", "error"])
def test_hostile_names_are_text(kind: str) -> None:
    name = f"lab/{HOSTILE.replace('/', '')}"
    odd = {HOSTILE: Signature(HOSTILE, {HOSTILE: dense(HOSTILE, None)}, {HOSTILE: dense("float32")})}
    readme = (
        f"---\ntitle: {HOSTILE}\ntask: {HOSTILE}\nlicense: {HOSTILE}\ndescription: {HOSTILE}\ntags: [{HOSTILE}]\n---\n"
    )
    facts = facts_of(
        name, 1, readme, meta_graphs=(MetaGraph((HOSTILE, "x"), odd),), files=((HOSTILE, 1),), common_signature=HOSTILE
    )
    model = model_of(name, 1)
    page = {
        "index": lambda: PAGES.index([Entry(model, facts)], Query(q="script", task=HOSTILE, publisher="lab")),
        "model": lambda: PAGES.model(facts, model),
        "error": lambda: PAGES.error(404, HOSTILE),
    }[kind]()
    elements = Elements(page)
    assert [each.get("src") for each in elements.all("script")] == [PAGES.site.url_of_asset("hubd.js")]
    assert [each.get("src") for each in elements.all("img")] == [PAGES.site.url_of_asset("icon.svg")]
    assert not any(name.startswith("on") for _, attributes in elements.found for name in attributes)
    assert "{{ 7*7 }}" in page
    assert HOSTILE in unescape(page)


def test_a_page_of_a_module_with_too_much_of_everything_stays_small() -> None:
    many = {f"x{number}": dense("float32", None) for number in range(5000)}
    graph = MetaGraph(("serve",), {f"s{number}": Signature("", many, many) for number in range(60)})
    files = tuple((f"assets/{number}", number) for number in range(100_000))
    page = PAGES.model(facts_of("lab/m", meta_graphs=(graph,), files=files), model_of("lab/m", *range(9000, 0, -1)))
    assert len(page) < 2_000_000
    for left_out in ("and 9,800 tensors more", "and 10 signatures more", "and 99,800 smaller files", "and older ones"):
        assert left_out in text_of(page)


def test_a_description_is_not_shown_twice() -> None:
    taken_from_the_text = page_of("# M\n\nIt *halves* and adds.\n")
    assert text_of(taken_from_the_text.partition("<main")[2]).count("It halves and adds.") == 1
    stated = page_of("---\ndescription: A line.\n---\n# M\n\nThe text.\n")
    assert "A line." in text_of(stated.partition("<main")[2])


def test_a_module_without_documentation_says_where_it_would_be() -> None:
    assert "it would be in a README.md" in text_of(page_of())


def test_the_index_says_how_many_there_are_and_leads_on() -> None:
    entries = [entry_of(f"lab/m{number:03}") for number in range(120)]
    first = PAGES.index(entries, Query())
    assert "120 modules" in text_of(first)
    assert {"class": "button quiet", "rel": "next", "href": "/hub/?after=lab%2Fm049"} in Elements(first).all("a")
    last = PAGES.index(entries, Query(after="lab/m099"))
    assert "Next page" not in last
    assert "lab/m119" in last


def test_the_index_keeps_what_was_looked_for() -> None:
    entries = [entry_of("lab/m", "---\ntask: text-embedding\n---\n")]
    page = Elements(PAGES.index(entries, Query('a "b"', "text-embedding", "lab")))
    assert [each["value"] for each in page.all("input")] == ['a "b"']
    assert [each["value"] for each in page.all("option") if "selected" in each] == ["text-embedding", "lab"]


def test_an_index_with_nothing_to_show_says_why() -> None:
    assert "There is no module here yet." in PAGES.index([], Query())
    assert "No module fits." in PAGES.index([entry_of("lab/m")], Query(q="zebra"))
    assert "Nothing is known of it yet." in PAGES.index([Entry(model_of("lab/new", 1), None)], Query())

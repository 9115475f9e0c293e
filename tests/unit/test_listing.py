"""Which modules fit what somebody looks for."""

from __future__ import annotations

import json

import pytest
from yarl import URL

from hubclient.contract.errors import RequestInvalid
from hubd.publishing.listing import Entry, Found, Query, listed, search
from tests.support.model_facts import entry_of, facts_of, model_of

ENTRIES = [
    entry_of("lab/vision/mobilenet", "---\ntask: image-classification\ntags: [fast, ImageNet]\n---\n# MobileNet V2\n"),
    entry_of("lab/text/encoder", "---\ntask: text-embedding\n---\n# Sentence encoder\n\nTurns text into vectors.\n"),
    entry_of("acme/encoder", "---\ntask: text-embedding\n---\n# Größe\n", 12, 3),
    Entry(model_of("acme/new", 1), None),
]


def names(found: Found) -> list[str]:
    return [entry.model.name for entry in found.entries]


@pytest.mark.parametrize(
    ("query", "fitting"),
    [
        (Query(), ["acme/encoder", "acme/new", "lab/text/encoder", "lab/vision/mobilenet"]),
        (Query(q="encoder"), ["acme/encoder", "lab/text/encoder"]),
        (Query(q="VECTORS sentence"), ["lab/text/encoder"]),
        (Query(q="imagenet"), ["lab/vision/mobilenet"]),
        (Query(q="grösse"), ["acme/encoder"]),
        (Query(q="GRÖẞE"), ["acme/encoder"]),
        (Query(q="encoder nothing"), []),
        (Query(task="text-embedding"), ["acme/encoder", "lab/text/encoder"]),
        (Query(task="text"), []),
        (Query(publisher="acme"), ["acme/encoder", "acme/new"]),
        (Query(publisher="lab"), []),
        (Query(q="encoder", task="text-embedding", publisher="lab/text"), ["lab/text/encoder"]),
    ],
)
def test_modules_are_found_by_words_task_and_publisher(query: Query, fitting: list[str]) -> None:
    assert names(search(ENTRIES, query)) == fitting


def test_a_module_that_nothing_is_known_of_yet_is_listed_with_what_its_name_tells() -> None:
    (model,) = listed(search(ENTRIES, Query(q="new")), "http://h").models
    assert (model.name, model.title, model.size_bytes, model.signatures) == ("acme/new", "acme/new", None, [])


def test_pages_follow_one_another_until_all_were_shown() -> None:
    seen: list[str] = []
    query = Query(limit=3)
    while True:
        found = search(ENTRIES, query)
        assert found.total == len(ENTRIES)
        seen += names(found)
        if found.next is None:
            break
        query = query.with_after(found.next)
    assert seen == sorted(entry.model.name for entry in ENTRIES)


def test_a_module_that_goes_meanwhile_hides_no_other() -> None:
    first = search(ENTRIES, Query(limit=1))
    rest = [entry for entry in ENTRIES if entry.model.name != first.next]
    assert first.next is not None
    assert names(search(rest, Query(after=first.next))) == ["acme/new", "lab/text/encoder", "lab/vision/mobilenet"]


def test_tasks_and_publishers_to_choose_from_are_those_of_all_modules() -> None:
    found = search(ENTRIES, Query(q="mobilenet"))
    assert found.tasks == (("image-classification", 1), ("text-embedding", 2))
    assert found.publishers == (("acme", 2), ("lab/text", 1), ("lab/vision", 1))


def test_a_query_comes_back_from_its_own_url() -> None:
    query = Query("größe & <b>", "text-embedding", "lab/text", "lab/text/a", 7)
    assert Query.parse(URL("/" + query.query_string).query) == query
    assert Query().query_string == ""


@pytest.mark.parametrize("limit", ["0", "-1", "201", "1.5", "x", "٣", "9" * 5000])
def test_a_limit_out_of_bounds_is_refused(limit: str) -> None:
    with pytest.raises(RequestInvalid, match="1 to 200"):
        Query.parse({"limit": limit})


def test_a_long_search_is_refused_and_a_strange_parameter_ignored() -> None:
    assert Query.parse({"q": " a ", "utm_source": "x", "limit": ""}) == Query("a")
    with pytest.raises(RequestInvalid, match="500 characters"):
        Query.parse({"q": "a" * 501})


def test_the_listing_for_programs_says_what_to_load_and_what_it_is() -> None:
    facts = facts_of("lab/m", 12, "---\ntask: text-embedding\n---\n# M\n", digest="sha256:ab", archive_bytes=5)
    answer = listed(search([Entry(model_of("lab/m", 12, 3), facts)], Query()), "https://h.example")
    (model,) = json.loads(answer.model_dump_json())["models"]
    assert model["url"] == "https://h.example/lab/m/12"
    assert model["versions"] == [12, 3]
    assert model["signatures"] == ["serving_default"]
    assert (model["task"], model["digest"], model["archive_bytes"]) == ("text-embedding", "sha256:ab", 5)
    assert model["modified_at"] == "2026-02-02T02:40:00Z"


def test_urls_of_odd_names_are_encoded() -> None:
    (model,) = listed(search([entry_of('lab/a b"<>#?%ü')], Query()), "https://h.example").models
    assert model.url == "https://h.example/lab/a%20b%22%3C%3E%23%3F%25%C3%BC/1"

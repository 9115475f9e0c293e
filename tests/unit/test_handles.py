"""Handles: spellings of one handle share a canonical form and a key, and nothing else does."""

from __future__ import annotations

import hashlib
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubclient.contract import handles
from hubclient.contract.errors import HandleInvalid

_LABEL = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=8)
_HOST = st.lists(_LABEL, min_size=1, max_size=3).map(".".join)
_SEGMENT = st.text(string.ascii_letters + string.digits + "-_~%é", min_size=1, max_size=8).filter(
    lambda s: "%" not in s
)
_PATH = st.lists(_SEGMENT, max_size=4).map(lambda segments: "".join(f"/{segment}" for segment in segments))
_PARAMETER = st.tuples(_LABEL, st.text(string.ascii_letters, max_size=4)).map("=".join)
_QUERY = st.lists(_PARAMETER, max_size=3)


@st.composite
def _parts(draw: st.DrawFn) -> tuple[str, str, str, list[str]]:
    return draw(st.sampled_from(["http", "https"])), draw(_HOST), draw(_PATH), draw(_QUERY)


def _canonical_of(scheme: str, host: str, path: str, query: list[str]) -> str:
    return f"{scheme}://{host}{path}" + ("?" + "&".join(query) if query else "")


@given(_parts(), st.data())
def test_spellings_of_one_handle_share_a_canonical_form(
    parts: tuple[str, str, str, list[str]], data: st.DataObject
) -> None:
    scheme, host, path, query = parts
    port = {"http": ":80", "https": ":443"}[scheme]
    format_parameter = data.draw(st.sampled_from(["tf-hub-format=compressed", "TF-Hub-Format=x", "tf%2dhub-format"]))
    place = data.draw(st.integers(0, len(query)))
    spelt_query = [*query[:place], *data.draw(st.sampled_from([[], [format_parameter]])), *query[place:]]
    spelling = _canonical_of(
        data.draw(st.sampled_from([scheme, scheme.upper(), scheme.title()])),
        data.draw(st.sampled_from([host, host.upper()])) + data.draw(st.sampled_from(["", ":", port])),
        path,
        spelt_query,
    ) + data.draw(st.sampled_from(["", "#", "#fragment?x=1"]))
    assert handles.canonical(spelling) == _canonical_of(scheme, host, path, query)


@given(_parts(), _parts())
def test_other_handles_have_other_keys(
    one: tuple[str, str, str, list[str]], other: tuple[str, str, str, list[str]]
) -> None:
    first, second = handles.canonical(_canonical_of(*one)), handles.canonical(_canonical_of(*other))
    assert (handles.key(first) == handles.key(second)) == (one == other)


@given(
    st.text()
    | st.text(string.printable).map("https://".__add__)
    | st.text().map("https://h/".__add__)
    | st.text(min_size=1).map(lambda name: f"https://a{name}b/m")
    | st.text("ab/.1%:", max_size=12).map("kaggle:o/m/f".__add__)
    | st.text(max_size=12).map("gs://b/".__add__)
)
def test_any_text_has_a_stable_canonical_form_or_is_refused(text: str) -> None:
    try:
        canonical = handles.canonical(text)
    except HandleInvalid:
        return
    assert handles.canonical(canonical) == canonical
    assert len(handles.key(canonical)) == 64
    assert handles.request_url(canonical).isascii()


@pytest.mark.parametrize(
    ("spelling", "canonical"),
    [
        ("https://h", "https://h"),
        ("https://h/", "https://h/"),
        ("https://h/A/%41/b", "https://h/A/%41/b"),
        ("https://h/m?b=&a", "https://h/m?b=&a"),
        ("https://h/m?a=2&a=1", "https://h/m?a=2&a=1"),
        ("https://h/m?tf-hub-format=compressed", "https://h/m"),
        ("https://h/m?a=&tf-hub-format=compressed&b=1#f", "https://h/m?a=&b=1"),
        ("https://h:8443/m", "https://h:8443/m"),
        ("http://h:443/m", "http://h:443/m"),
        ("https://[2001:DB8::1]:443/m", "https://[2001:db8::1]/m"),
        ("https://BÜCHER.example/m", "https://xn--bcher-kva.example/m"),
        ("https://h/a..b/.c/d.", "https://h/a..b/.c/d."),
        ("https://h/%252e%252e/m", "https://h/%252e%252e/m"),
        ("kaggle:google/bert/tensorFlow2/en-uncased_v1.5/12", "kaggle:google/bert/tensorFlow2/en-uncased_v1.5/12"),
        ("KAGGLE:o/m/TFLite/v", "kaggle:o/m/TFLite/v"),
        ("S3://My-Bucket.eu/models/M/1", "s3://My-Bucket.eu/models/M/1"),
        ("gs://b_1/m/", "gs://b_1/m"),
        ("AZ://$web/m.tar.gz", "az://$web/m.tar.gz"),
        ("s3://b/%41%2e/é;v=1&a", "s3://b/%41%2e/é;v=1&a"),
        ("s3://b/...", "s3://b/..."),
    ],
)
def test_canonical_form(spelling: str, canonical: str) -> None:
    assert handles.canonical(spelling) == canonical


@pytest.mark.parametrize(
    "handle",
    [
        "",
        "ftp://h/m",
        "h/m",
        "https:///m",
        "https://",
        "https://user@h/m",
        "https://user:password@h/m",
        "https://@h/m",
        "https://h:port/m",
        "https://h:99999/m",
        "https://[::1/m",
        "https://a..b/m",
        "https://a\u00a0b/m",
        "https://a\u2100b/m",
        "https://a\u2025b/m",
        "https://a%2fb/m",
        "https://a'b/m",
        "https://" + "a" * 64 + ".example/m",
        "https://h/../m",
        "https://h/a/./m",
        "https://h/%2e%2E/m",
        "https://h/a/.%2e",
        "https://h/a b",
        "https://h/a\nb",
        "https://h/a\x00b",
        "https://h/a\x7fb",
        "https://h\\m",
        "https://h/\udcff",
        "https://h/" + "a" * handles.MAX_HANDLE_LENGTH,
        "kaggle:",
        "kaggle:o/m/f",
        "kaggle:o/m/f/v/1/2",
        "kaggle:o/m/f/v/",
        "kaggle:o//f/v/1",
        "kaggle:/o/m/f/v",
        "kaggle:o/m/f/v/latest",
        "kaggle:o/m/f/v/0",
        "kaggle:o/m/f/v/007",
        "kaggle:o/m/f/v/1234567890",
        "kaggle:o/m/f/../1",
        "kaggle:o/m/f/%2e%2e/1",
        "kaggle:o/m/f/v/1?a=b",
        "kaggle:o/m/f/v/1#f",
        "kaggle:o/m/f/vé/1",
        "kaggle:u:p@h/m/f/v/1",
        "kaggle://o/m/f/v/1",
        "s3://",
        "s3:///m",
        "s3://b",
        "s3://b/",
        "s3://b//",
        "s3://b//m",
        "s3://b/m//",
        "s3://b/./m",
        "s3://b/m/..",
        "s3://b/m/%2E%2e/x",
        "s3://b/m%2f..%2fx",
        "s3://b/m?versionId=1",
        "s3://b/m#f",
        "s3://b/a b",
        "s3://b/a\\b",
        "s3://b/a\x85b",
        "s3://b/a\nb",
        "s3://b/\udcff",
        "s3://b:1/m",
        "s3://u@b/m",
        "s3://$web/m",
        "s3://-b/m",
        "s3://a..b/m",
        "s3://bücket/m",
        "s3://" + "b" * 223 + "/m",
        "s3:b/m",
        "abfs://c/m",
    ],
)
def test_what_is_no_handle_is_refused(handle: str) -> None:
    with pytest.raises(HandleInvalid):
        handles.canonical(handle)


def test_a_refusal_never_repeats_a_password() -> None:
    with pytest.raises(HandleInvalid) as refusal:
        handles.canonical("https://user:secret@h/m")
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("handle", "immutable"),
    [
        ("https://h/m/1", True),
        ("https://h/m/007", True),
        ("https://h/m/1?a=b", True),
        ("https://h/m/1/", False),
        ("https://h/m/v1", False),
        ("https://h/m/1.0", False),
        ("https://h/m/-1", False),
        ("https://h/m/٣", False),
        ("https://h/m?v=1", False),
        ("https://1", False),
        ("kaggle:o/m/f/v/1", True),
        ("kaggle:o/m/f/2", False),
        ("https://h", False),
        ("s3://b/m/1", True),
        ("gs://b/1.tar.gz", False),
        ("s3://b/1;2", False),
    ],
)
def test_a_whole_number_at_the_end_makes_a_version(handle: str, immutable: bool) -> None:
    assert handles.is_immutable(handle) is immutable


@pytest.mark.parametrize(
    ("handle", "url"),
    [
        ("https://h/m/1", "https://h/m/1?tf-hub-format=compressed"),
        ("https://h/m?a=", "https://h/m?a=&tf-hub-format=compressed"),
        ("https://h/é%20", "https://h/%C3%A9%20?tf-hub-format=compressed"),
    ],
)
def test_the_request_asks_for_the_compressed_format(handle: str, url: str) -> None:
    assert handles.request_url(handle) == url


@pytest.mark.parametrize(
    ("handle", "path"),
    [
        ("/models/m", True),
        ("m", True),
        ("file:///models/m", True),
        ("FILE:///models/m", True),
        ("https://h/m", False),
        ("gs://b/m", False),
        ("s3:b/m", True),
        ("kaggle:o/m/f/v/1", False),
        ("Kaggle:x", False),
        ("./kaggle:x", True),
        ("kaggle", True),
    ],
)
def test_paths_are_told_from_urls(handle: str, path: bool) -> None:
    assert handles.is_path(handle) is path


def test_keys_and_view_names_are_the_documented_hashes() -> None:
    handle = "https://h/m/1"
    assert handles.key(handle) == hashlib.sha256(handle.encode()).hexdigest()
    assert handles.spelling_name(handle) == hashlib.sha1(handle.encode()).hexdigest()
    assert handles.host("https://h:8443/m") == "h"
    assert handles.host("kaggle:o/m/f/v/1") == "www.kaggle.com"
    assert handles.host("s3://B.ucket/m/1") == "s3://B.ucket"


def test_an_object_has_parts_and_a_bucket_alone_has_no_path() -> None:
    assert handles.object_parts("S3://b/m/1/") == ("s3", "b", "m/1")
    assert handles.object_parts("gs://b") == handles.object_parts("gs://b/") == ("gs", "b", "")
    assert handles.is_object("AZ://c/m")
    assert not any(map(handles.is_object, ("s3:/b/m", "s3", "https://h/s3://b", "/s3://b")))

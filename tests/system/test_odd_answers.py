"""Answers that HTTP allows, and that are no archive, or an archive in a disguise."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import pytest

from tests.support.archives import MODULE, archive
from tests.support.daemon import Daemon
from tests.support.origin import Answer, Origin
from tests.support.remains import assert_nothing_remains

ARCHIVE = archive()
HTML = b"<!doctype html><title>Sign in</title>" + b"<p>text</p>" * 1000


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        pytest.param(Answer(HTML, headers={"Content-Type": "text/html"}), "archive-corrupt", id="html"),
        pytest.param(Answer(HTML, chunked=True), "archive-corrupt", id="html-chunked"),
        pytest.param(Answer(b""), "archive-corrupt", id="empty"),
        pytest.param(Answer(b"", chunked=True), "archive-corrupt", id="empty-chunked"),
        pytest.param(Answer(b"", status=204), "upstream-unavailable", id="no-content"),
        pytest.param(Answer(gzip.compress(b"")), "archive-corrupt", id="empty-gzip"),
        pytest.param(
            Answer(zlib.compress(ARCHIVE), headers={"Content-Encoding": "deflate"}), "archive-corrupt", id="deflate"
        ),
        pytest.param(Answer(gzip.decompress(ARCHIVE), headers={"Content-Encoding": "br"}), "archive-corrupt", id="br"),
    ],
)
def test_what_is_no_archive_ends_with_the_right_code(
    shared_daemon: Daemon, origin: Origin, answer: Answer, code: str
) -> None:
    handle = origin.serve("/m/1", answer)
    assert shared_daemon.resolve(handle)[1]["code"] == code
    assert_nothing_remains(shared_daemon, handle)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Answer(ARCHIVE, chunked=True), id="chunked"),
        pytest.param(Answer(ARCHIVE, headers={"Content-Encoding": "gzip"}), id="labelled-gzip"),
        pytest.param(
            Answer(ARCHIVE, headers={"Content-Encoding": "x-gzip", "Content-Type": "application/x-tar"}), id="x"
        ),
        pytest.param(Answer(ARCHIVE, headers={"Content-Type": "text/html"}), id="labelled-html"),
        pytest.param(Answer(gzip.compress(ARCHIVE), headers={"Content-Encoding": "gzip"}), id="gzip-twice"),
    ],
)
def test_an_archive_is_known_by_its_bytes(shared_daemon: Daemon, origin: Origin, answer: Answer) -> None:
    status, told = shared_daemon.resolve(origin.serve("/m/1", answer))
    assert status == 200, told
    index = Path(told["path"]) / "variables" / "variables.index"
    assert index.read_bytes() == MODULE["variables/variables.index"]


def test_a_loop_of_redirects_ends(shared_daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(status=302, headers={"Location": "/n/1"}))
    origin.serve("/n/1", Answer(status=307, headers={"Location": "/m/1"}))
    status, problem = shared_daemon.resolve(handle)
    assert (status, problem["code"]) == (503, "upstream-unavailable")
    assert "more than 10 redirects" in problem["detail"]
    assert len(origin.asked("/m/1")) + len(origin.asked("/n/1")) == 11
    assert_nothing_remains(shared_daemon, handle)


@pytest.mark.parametrize("hops", [10, 11])
def test_redirects_are_followed_ten_times(shared_daemon: Daemon, origin: Origin, hops: int) -> None:
    for hop in range(hops):
        origin.serve(f"/{hop}/m/1", Answer(b"x" * 70_000, 302, headers={"Location": f"/{hop + 1}/m/1"}))
    origin.serve(f"/{hops}/m/1", Answer(ARCHIVE))
    assert shared_daemon.resolve(origin.url("/0/m/1"))[0] == (200 if hops == 10 else 503)


@pytest.mark.parametrize("name", ["../../../evil", "/etc/passwd", "..%2f..%2fevil", "evil\\..\\x"])
def test_names_in_headers_are_never_paths(shared_daemon: Daemon, origin: Origin, name: str) -> None:
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Content-Location": name}
    origin.serve("/there", Answer(ARCHIVE, headers=headers))
    handle = origin.serve("/m/1", Answer(status=302, headers={"Location": f"/there?name={name}"}))
    before = {path.name for path in shared_daemon.cache.parent.iterdir()}
    status, told = shared_daemon.resolve(handle)
    assert status == 200, told
    assert Path(told["path"]).parent.parent == shared_daemon.cache / "trees"
    assert {path.name for path in shared_daemon.cache.parent.iterdir()} == before
    assert_nothing_remains(shared_daemon, handle)
    assert not [path for path in shared_daemon.cache.rglob("*") if "evil" in path.name or "passwd" in path.name]

"""One line in the log for each fetch that ended, with all that matters and nothing that is secret."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.archives import archive
from tests.support.daemon import Daemon
from tests.support.origin import Answer, Origin
from tests.support.waiting import wait_until

ARCHIVE = archive()
CUT = len(ARCHIVE) // 2
SECRET = "kN7-tell-nobody"
CONFIG = '[network]\nretries = 1\n[log]\nformat = "json"\nlevel = "debug"\n'


@pytest.fixture(scope="module")
def talkative(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Logs all that it has, as JSON."""
    with Daemon(tmp_path_factory.mktemp("daemon"), config=CONFIG) as running:
        yield running


def ended(daemon: Daemon, handle: str) -> list[dict[str, Any]]:
    """What was logged of the handle's fetches."""
    entries = [json.loads(line) for line in daemon.log.read_text().splitlines()]
    return [entry for entry in entries if entry["message"] == "fetch ended" and entry["handle"] == handle]


def test_a_fetch_that_went_well_tells_all_that_matters(talkative: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(ARCHIVE))
    digest = talkative.resolve(handle)[1]["digest"]
    (entry,) = ended(talkative, handle)
    told = {name: entry[name] for name in ("level", "outcome", "digest", "host", "tier")}
    assert told == {"level": "info", "outcome": "fetched", "digest": digest, "host": "127.0.0.1", "tier": "origin"}
    assert (entry["bytes"], entry["resumed_bytes"], entry["tries"], entry["connections"]) == (len(ARCHIVE), 0, 1, 1)
    assert (entry["waiters"], entry["prefetch"]) == (1, False)
    assert set(entry["seconds_by_phase"]) == {"queued", "connecting", "transferring", "unpacking", "publishing"}
    assert sum(entry["seconds_by_phase"].values()) == pytest.approx(entry["seconds"], abs=0.01)
    assert talkative.resolve(handle)[1]["outcome"] == "hit"
    assert len(ended(talkative, handle)) == 1


def test_a_fetch_that_failed_tells_its_code_and_why(talkative: Daemon, origin: Origin) -> None:
    handle = origin.serve("/none/1", Answer(status=404))
    talkative.resolve(handle)
    (entry,) = ended(talkative, handle)
    assert (entry["outcome"], entry["level"], "404" in entry["detail"]) == ("upstream-not-found", "info", True)
    assert "digest" not in entry


def test_a_second_try_is_told(talkative: Daemon, origin: Origin) -> None:
    first = iter([Answer(ARCHIVE, cut_after_bytes=CUT, etag='"1"', ranges=True)])
    handle = origin.serve("/cut/1", lambda _: next(first, Answer(ARCHIVE, etag='"1"', ranges=True)))
    talkative.resolve(handle)
    (entry,) = ended(talkative, handle)
    assert (entry["outcome"], entry["tries"], entry["bytes"]) == ("fetched", 2, len(ARCHIVE))


def test_a_prefetch_and_its_end_before_the_time_are_told(talkative: Daemon, origin: Origin) -> None:
    answer = Answer(ARCHIVE, gate_after_bytes=CUT)
    handle = origin.serve("/slow/1", answer)
    (told,) = talkative.request("POST", "/v1/prefetch", {"handles": [handle]})[1]["fetches"]
    talkative.request("DELETE", f"/v1/fetches/{told['id']}")
    wait_until(lambda: ended(talkative, handle) != [])
    answer.gate.set()
    (entry,) = ended(talkative, handle)
    assert (entry["outcome"], entry["prefetch"], entry["id"]) == ("cancelled", True, told["id"])


def test_no_query_and_no_credential_is_in_the_log(talkative: Daemon, origin: Origin) -> None:
    """Not of the handle, nor of where redirects lead to, whatever becomes of the fetch."""
    query, credential = f"?token={SECRET}", {"type": "bearer", "value": SECRET}
    signed = f"/signed?signature={SECRET}"
    ends = {
        "/whole": Answer(ARCHIVE),
        "/gone": Answer(b"no", 404),
        "/denied": Answer(b"no", 403),
        "/busy": Answer(b"no", 503),
        "/page": Answer(b"a page to sign in"),
        "/reset": Answer(reset=True),
        "/cut": Answer(ARCHIVE, cut_after_bytes=CUT),
        "/loop": Answer(status=302, headers={"Location": origin.url(signed)}),
        "/away": Answer(status=302, headers={"Location": f"http://127.0.0.1:1{signed}"}),
        "/odd": Answer(status=302, headers={"Location": f"ftp://127.0.0.1{signed}"}),
        "/strange": Answer(status=302, headers={"Location": f"http://user:{SECRET}@[{signed}"}),
    }
    origin.serve("/signed", Answer(status=302, headers={"Location": origin.url(signed)}))
    for path, answer in ends.items():
        handle = origin.serve(path, answer) + query
        for more in ({}, {"credential": credential}):
            status, told = talkative.resolve(handle, **more)
            assert (status == 200) == (path == "/whole"), told
    assert len(ended(talkative, origin.url("/gone"))) == 2
    assert SECRET not in talkative.log.read_text()

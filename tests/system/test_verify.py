"""POST /v1/verify: every byte is compared, what differs is withdrawn, and fetched again when that is asked for."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from hubd.store.adoption import adopt
from hubd.store.records import Records
from hubd.store.trees import Trees
from tests.support.archives import MODULE, archive
from tests.support.clients import Client
from tests.support.daemon import Daemon
from tests.support.modules import change_silently, fill, record_of
from tests.support.origin import Answer, Origin
from tests.support.waiting import wait_until

OTHER = {**MODULE, "assets/vocabulary.txt": b"words"}
_WEIGHTS = "variables/variables.data-00000-of-00001"


def verify(daemon: Daemon, **fields: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What was found, by digest, and the last event."""
    with daemon.stream("/v1/verify", fields) as events:
        told = list(events)
    assert told[0]["event"] == "progress"
    checked = {event.pop("digest"): event for event in told if event["event"] == "checked"}
    assert [event["event"] for event in told if event["event"] not in ("progress", "checked")] == [told[-1]["event"]]
    return checked, told[-1]


def test_what_is_intact_is_said_to_be(daemon: Daemon, origin: Origin) -> None:
    for number, files in enumerate((MODULE, MODULE, OTHER)):
        daemon.resolve(origin.serve(f"/m/{number}", Answer(archive(files))))
    checked, done = verify(daemon)
    assert {event["outcome"] for event in checked.values()} == {"intact"}
    assert sorted(len(event["handles"]) for event in checked.values()) == [1, 2], "equal content is read once"
    assert (done["event"], done["modules"], done["damaged"]) == ("done", 2, 0)
    assert done["size_bytes"] == sum(map(len, [*MODULE.values(), *OTHER.values()]))


def test_what_differs_is_withdrawn_and_its_next_use_repairs_it(daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(archive(MODULE)))
    answer = daemon.resolve(handle)[1]
    file = Path(answer["path"]) / _WEIGHTS
    change_silently(file)
    assert daemon.resolve(handle)[1]["outcome"] == "hit", "no quick check can see it"
    checked, done = verify(daemon, keys=[answer["key"]])
    found = checked[answer["digest"]]
    assert (found["outcome"], found["files"], found["handles"]) == ("damaged", [_WEIGHTS], [handle])
    assert (done["damaged"], done["repaired"]) == (1, 0)
    assert not (daemon.cache / "handles" / answer["key"]).is_symlink()
    daemon.kill()
    daemon.start()
    assert verify(daemon)[0][answer["digest"]]["outcome"] == "damaged", "it stays so across restarts"
    with Client(handle, {**daemon.client_environ, "TFHUB_CACHE_DIR": str(daemon.cache)}) as client:
        assert client.answer() == answer["path"]
    assert file.read_bytes() == MODULE[_WEIGHTS]
    assert verify(daemon)[0][answer["digest"]]["outcome"] == "intact"


def test_a_running_client_that_knew_the_listing_gets_no_damaged_module(daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(archive(MODULE)))
    answer = daemon.resolve(handle)[1]
    file = Path(answer["path"]) / _WEIGHTS
    environ = {**daemon.client_environ, "TFHUB_CACHE_DIR": str(daemon.cache)}
    with Client(handle, environ) as client:
        assert client.answer() == answer["path"]
        change_silently(file)
        assert verify(daemon)[1]["damaged"] == 1
        client.ask_again()
        assert client.answer() == answer["path"]
        assert file.read_bytes() == MODULE[_WEIGHTS]


def test_repair_fetches_what_differs_again_right_away(daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(archive(MODULE)))
    gone = origin.serve("/m/2", Answer(archive(OTHER)))
    one, other = daemon.resolve(handle)[1], daemon.resolve(gone)[1]
    for answer in (one, other):
        (Path(answer["path"]) / "extra").touch()
    origin.serve("/m/2", Answer(status=404))
    checked, done = verify(daemon, repair=True)
    assert (checked[one["digest"]]["outcome"], checked[one["digest"]]["files"]) == ("repaired", ["extra"])
    assert not (Path(one["path"]) / "extra").exists()
    assert checked[other["digest"]]["outcome"] == "unrepaired"
    assert checked[other["digest"]]["problem"]["code"] == "upstream-not-found"
    assert (done["damaged"], done["repaired"]) == (2, 1)


def test_a_tree_that_is_gone_is_damaged_all_of_it(daemon: Daemon, origin: Origin) -> None:
    answer = daemon.resolve(origin.serve("/m/1", Answer(archive(MODULE))))[1]
    os.rename(Path(answer["path"]).parent, daemon.cache / "trash" / "x")
    found = verify(daemon, keys=[answer["key"]], repair=True)[0][answer["digest"]]
    assert (found["outcome"], found["files"]) == ("repaired", ["module"])
    assert (Path(answer["path"]) / _WEIGHTS).read_bytes() == MODULE[_WEIGHTS]


def test_what_the_cache_does_not_have_is_not_found(daemon: Daemon) -> None:
    assert daemon.request("POST", "/v1/verify", {"keys": ["0" * 64]})[0] == 404
    assert daemon.request("POST", "/v1/verify", {"keys": []})[0] == 400
    checked, done = verify(daemon)
    assert (checked, done["modules"]) == ({}, 0)


def _endless(cache: Path) -> None:
    """A cache with a module whose only file is a hole that takes minutes to read."""
    with adopt(str(cache), socket="/s") as hold:
        trees, size_bytes = Trees(hold.layout), 200_000_000_000
        tree = trees.stage().attempt_tree(1)
        manifest = fill(tree, {"saved_model.pb": b""})
        os.truncate(f"{tree}/module/saved_model.pb", size_bytes)
        entry = manifest.files["saved_model.pb"].model_copy(update={"size_bytes": size_bytes})
        changes = {"files": {"saved_model.pb": entry}, "size_bytes": size_bytes}
        trees.publish(tree, manifest.digest, manifest.model_copy(update=changes)).release()
        record = record_of("https://example.com/m/1", {"saved_model.pb": b""})
        Records(hold.layout).put(record.model_copy(update={"size_bytes": size_bytes}), direct_until=2e9)
        hold.move_clean_point(time.time())
        hold.stop()


def test_one_at_a_time_and_it_ends_when_its_asker_leaves(tmp_path: Path) -> None:
    _endless(tmp_path / "cache")
    with Daemon(tmp_path) as daemon:
        with daemon.stream("/v1/verify", {}) as events:
            while next(events)["done_bytes"] == 0:
                pass
            status, problem = daemon.request("POST", "/v1/verify", {})
            assert (status, problem["code"]) == (429, "too-busy")
        wait_until(lambda: daemon.request("POST", "/v1/verify", {"keys": ["0" * 64]})[0] == 404)
        with daemon.stream("/v1/verify", {}) as events:
            next(events)
            assert daemon.stop() == 0, "nor does one keep the daemon from stopping"
            *_, last = events
            assert last["problem"]["code"] == "shutting-down"

"""Repair: whatever harms a cached module, the next use has it right again, and whoever holds it has it at its path."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path

import pytest

from hubclient.contract.lease import Lease
from tests.support.archives import MODULE, archive
from tests.support.clients import Client
from tests.support.daemon import Daemon
from tests.support.origin import Answer, Origin

ARCHIVE = archive(MODULE)
# What a host that packs on the fly sends the next time.
REPACKED = gzip.compress(gzip.decompress(ARCHIVE), 1, mtime=99)
CHANGED = archive({**MODULE, "assets/new.txt": b"new"})


def counters(daemon: Daemon) -> Mapping[str, int]:
    counted: Mapping[str, int] = daemon.request("GET", "/v1/status")[1]["counters"]
    return counted


@pytest.mark.parametrize("path", ["/m/1", "/m/latest"])
def test_equal_content_in_other_bytes_repairs_what_another_process_holds(
    daemon: Daemon, origin: Origin, path: str
) -> None:
    handle = origin.serve(path, Answer(ARCHIVE))
    with Client(handle, daemon.client_environ) as holder:
        module = Path(holder.answer())
        (module / "saved_model.pb").unlink()
        origin.serve(path, Answer(REPACKED))
        answer = daemon.resolve(handle)[1]
        assert (answer["outcome"], answer["path"], answer["warnings"]) == ("fetched", str(module), [])
        assert (module / "saved_model.pb").read_bytes() == MODULE["saved_model.pb"]
        daemon.kill()
        daemon.start()  # and with it goes the lease that it keeps for a while
        with pytest.raises(BlockingIOError):
            Lease.exclusive(str(module.parent / "lease"))
        assert daemon.resolve(handle)[1]["outcome"] == "hit"
    assert len(list((daemon.cache / "trees").iterdir())) == 1


def test_other_content_leaves_holders_what_they_have(daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/latest", Answer(ARCHIVE))
    with Client(handle, daemon.client_environ) as holder:
        module = Path(holder.answer())
        (module / "saved_model.pb").unlink()
        origin.serve("/m/latest", Answer(CHANGED))
        assert daemon.resolve(handle)[1]["path"] != str(module)
        assert (module / "variables" / "variables.index").exists()
    assert counters(daemon)["damaged"] == 1


def test_without_a_manifest_the_content_is_a_new_one(daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(ARCHIVE))
    module = Path(daemon.resolve(handle)[1]["path"])
    (module / "saved_model.pb").unlink()
    (module.parent / "manifest.json").unlink()
    origin.serve("/m/1", Answer(REPACKED))
    answer = daemon.resolve(handle)[1]
    assert answer["path"] != str(module)
    assert "not the one" in answer["warnings"][0]

"""HTTPS end to end: what the configuration says about certificates reaches the fetch, and the administrator."""

from __future__ import annotations

from pathlib import Path

from tests.support.archives import archive
from tests.support.certificates import Authority
from tests.support.daemon import Daemon
from tests.support.origin import Answer, Origin


def test_a_host_without_verification_is_served_and_warned_of(tmp_path: Path) -> None:
    tls = Authority(tmp_path).server("models.example.org")
    with Origin(tls) as origin, Daemon(tmp_path, config='[[host]]\nname = "localhost"\nverify = false\n') as daemon:
        origin.serve("/m/1", Answer(archive()))
        assert daemon.resolve(origin.url("/m/1", "localhost"))[0] == 200
        status, answer = daemon.resolve(origin.url("/m/1"))
        assert (status, answer["code"]) == (503, "upstream-unavailable")
        told = "the certificates of localhost are not verified"
        assert [told in warning for warning in daemon.request("GET", "/v1/status")[1]["warnings"]] == [True]
        assert told in daemon.log.read_text()


def test_a_bundle_that_cannot_be_read_ends_the_start(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, config='[network]\nca_bundle = "/nowhere/ca.pem"\n')
    daemon.start(wait=False)
    assert daemon.wait() == 2
    assert "network.ca_bundle: /nowhere/ca.pem cannot be read: No such file or directory" in daemon.log.read_text()

"""A daemon behind a proxy: modules come through it, and its credentials are seen by nobody else."""

from __future__ import annotations

from pathlib import Path

from tests.support.archives import archive
from tests.support.daemon import Daemon
from tests.support.origin import Answer, Origin
from tests.support.proxy import Proxy

SECRET = "Sn0oze"


def test_modules_come_through_the_proxy_whose_credentials_stay_secret(tmp_path: Path, origin: Origin) -> None:
    credentials = tmp_path / "credentials"
    credentials.write_text(f"me:{SECRET}\n")
    credentials.chmod(0o600)
    with Proxy({"models.example.org:80": origin.port}, credentials=f"me:{SECRET}") as proxy:
        config = (
            f'[network]\nproxy = "{proxy.endpoint}"\nproxy_credentials_file = "{credentials}"\n[log]\nlevel = "debug"\n'
        )
        with Daemon(tmp_path, config=config) as daemon:
            origin.serve("/m/1", Answer(archive()))
            handle = "http://models.example.org/m/1"
            assert daemon.resolve(handle)[1]["outcome"] == "fetched"
            direct = origin.serve("/direct/1", Answer(archive()))
            assert daemon.resolve(direct)[0] == 200, "this machine is never behind the proxy"
            denied = daemon.resolve("http://other.example.org/m/1")[1]
            assert denied["code"] == "upstream-unavailable"
            status = daemon.request("GET", "/v1/status")
        assert [line.split()[1].partition("?")[0] for line in proxy.asked[:1]] == [handle]
    assert SECRET not in daemon.log.read_text() + str(status) + str(denied)

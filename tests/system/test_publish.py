"""`hubctl publish` into the directory that a host serves: what it says can be fetched, and is what was published."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.support.daemon import Daemon
from tests.support.host import COMPRESSED, Host
from tests.support.hubctl import COMMAND, hubctl
from tests.unit.test_client_publishing import README, model, write


def publish(host: Host, module: Path, name: str) -> dict[str, Any]:
    """What `hubctl publish --json` tells."""
    command = [*COMMAND, "publish", str(module), name, "--to", str(host.library), "--base-url", host.url, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_a_version_can_be_fetched_as_soon_as_it_is_published_and_the_newest_is_the_latest(tmp_path: Path) -> None:
    module = write(tmp_path / "encoder", {"saved_model.pb": model(), "README.md": README})
    with Host(tmp_path) as host, Daemon(tmp_path) as daemon:
        for version in (1, 2):
            (module / "README.md").write_text(f"{README}\nVersion {version}.\n")
            told = publish(host, module, f"acme/encoder/{version}")
            host.await_version(f"acme/encoder/{version}")
            got = hubctl(daemon, "get", told["url"], "--digest", told["digest"])
            assert got.returncode == 0, got.stderr
            readme = Path(got.stdout.strip()) / "README.md"
            assert f"Version {version}." in readme.read_text()
            latest = host.get(f"/acme/encoder{COMPRESSED}")
            assert (latest.status, latest.headers["Location"]) == (302, f"/acme/encoder/{version}{COMPRESSED}")
            assert f"Version {version}." in host.get("/acme/encoder").body.decode()
        assert host.get(f"/acme/encoder/1{COMPRESSED}").status == 200
        listed = json.loads(host.get("/api/models").body)["models"]
        assert [(one["name"], one["versions"]) for one in listed] == [("acme/encoder", [2, 1])]

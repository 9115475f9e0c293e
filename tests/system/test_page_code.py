"""The commands on a module's page do what they say, pasted into a shell, whatever the module is called."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tomllib
from html import unescape
from pathlib import Path
from urllib.parse import quote

from tests.support.daemon import Daemon
from tests.support.host import Host
from tests.support.hubctl import COMMAND, environ_for
from tests.support.library import put
from tests.support.waiting import wait_until

NAME = 'lab/it\'s `id` "$HOME"; größe & <b>*'


def test_the_commands_on_a_page_fetch_and_lock_that_version(tmp_path: Path, shared_daemon: Daemon) -> None:
    host = Host(tmp_path)
    put(host.library, f"{NAME}/7")
    with host:
        url = f"{host.url}/{quote(NAME)}/7"
        wait_until(lambda: _digest(host) is not None)
        codes = re.findall(r"<pre[^>]*><code>(.*?)</code></pre>", host.get(f"/{quote(NAME)}").body.decode(), re.DOTALL)
        get, lock = [unescape(code) for code in codes if code.startswith("hubctl ")]
        assert f"--digest {_digest(host)}" in get
        path = Path(_in_a_shell(get, tmp_path, shared_daemon).strip())
        assert (path / "saved_model.pb").is_file()
        _in_a_shell(lock, tmp_path, shared_daemon)
    (locked,) = tomllib.loads((tmp_path / "hub.lock").read_text())["module"]
    assert locked["handle"] == url
    assert {code.split('"')[1] for code in map(unescape, codes) if code.startswith("import ")} == {url}


def _digest(host: Host) -> str | None:
    models = json.loads(host.get("/api/models").body)["models"]
    digest: str | None = models[0]["digest"] if models else None
    return digest


def _in_a_shell(line: str, directory: Path, daemon: Daemon) -> str:
    """What the line prints where `hubctl` is on the PATH."""
    place = directory / "bin"
    place.mkdir(exist_ok=True)
    program = place / "hubctl"
    program.write_text(f'#!/bin/sh\nexec {" ".join(COMMAND)} "$@"\n')
    program.chmod(0o755)
    environ = environ_for(daemon, PATH=f"{place}:{os.environ['PATH']}")
    done = subprocess.run(["bash", "-c", line], cwd=directory, env=environ, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout

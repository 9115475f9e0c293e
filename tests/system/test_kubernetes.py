"""kubernetes.yml as it stands: its containers run, as a node would run them, and do what containers.md says."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hubclient.contract import places
from tests.support import uids
from tests.support.archives import archive
from tests.support.container import Mount, Plan
from tests.support.container_files import DOCKERFILE, host_paths, instructions, manifest, only, pod
from tests.support.daemon import ask
from tests.support.origin import Answer, Origin
from tests.support.waiting import wait_until

pytestmark = uids.needs_root

SECONDS = 60
DAEMON, CLIENTS = pod("DaemonSet"), pod("Job")
BIN = Path(sys.executable).parent


class Node:
    """Directories that stand for those of a node, and its containers."""

    def __init__(self, place: Path) -> None:
        self._place = place
        ((name, text),) = manifest("ConfigMap")["data"].items()
        self.config = text
        self._name = name
        self._volume = place / "config"
        self._volume.mkdir()
        self.configure(text)
        self.sources = {"config": self._volume}
        for path in host_paths(DAEMON).values():  # DirectoryOrCreate
            self.host(path).mkdir(parents=True)

    def configure(self, text: str) -> None:
        """As the kubelet does it: a new directory, and a link to it that takes the old one's place."""
        written = self._volume / f"..{time.monotonic_ns()}"
        written.mkdir()
        (written / self._name).write_text(text)
        (self._volume / "..new").symlink_to(written.name)
        (self._volume / "..new").rename(self._volume / "..data")
        if not (self._volume / self._name).is_symlink():
            (self._volume / self._name).symlink_to(f"..data/{self._name}")

    def host(self, path: str) -> Path:
        return self._place / path.lstrip("/")

    def command(self, spec: dict[str, Any], container: dict[str, Any], program: Sequence[str]) -> list[str]:
        """The command line that runs the program in this container of the manifest's."""
        paths = host_paths(spec)
        mounts = tuple(
            Mount(
                str(self.sources.get(mount["name"]) or self.host(paths[mount["name"]])),
                mount["mountPath"],
                mount.get("readOnly", False),
            )
            for mount in container["volumeMounts"]
        )
        uid = {**spec["securityContext"], **container.get("securityContext", {})}["runAsUser"]
        found = sys.executable if program[0] == "python" else shutil.which(program[0], path=f"{BIN}:{os.defpath}")
        assert found is not None
        return Plan(uid, mounts).command(found, *program[1:])

    def run(self, spec: dict[str, Any], container: dict[str, Any], program: Sequence[str]) -> tuple[int, str]:
        """Exit code and output."""
        variables = {entry["name"]: entry["value"] for entry in container.get("env", ())}
        done = subprocess.run(
            self.command(spec, container, program),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            env={"PATH": os.defpath, **variables},
        )
        return done.returncode, done.stdout


@pytest.fixture
def node() -> Iterator[Node]:
    with uids.directory_of(0) as place:
        yield Node(Path(place))


def test_the_daemon_set_and_the_job_do_what_they_are_for(node: Node, origin: Origin, tmp_path: Path) -> None:
    handle = origin.serve("/m/1", Answer(archive()))
    # The origin is on this machine, and how full its disk is decides no test.
    here = node.config.replace("[cache]", '[cache]\nmin_free = "0B"')
    here += "[network]\nallow_http = true\nallow_private_addresses = true\n"
    node.configure(here)
    (container,), (client,) = DAEMON["containers"], CLIENTS["containers"]
    image = instructions(DOCKERFILE.read_text())
    program = [*only(image, "ENTRYPOINT").words, *only(image, "CMD").words]
    job = [*client["command"], handle]
    assert len(client["args"]) == 1
    socket = node.host(places.SERVICE_SOCKET)

    with (tmp_path / "log").open("wb") as log:
        # Before the first container of the pod: the directories are root's, and the daemon says so.
        code, told = node.run(DAEMON, container, program)
        assert code == 1
        assert f"may not write to {places.SERVICE_CACHE}: chown it" in told
        assert node.run(DAEMON, container, container["livenessProbe"]["exec"]["command"])[0] == 3

        (own,) = DAEMON["initContainers"]
        assert node.run(DAEMON, own, own["command"]) == (0, "")
        with subprocess.Popen(
            node.command(DAEMON, container, program), stderr=log, env={"PATH": os.defpath}
        ) as contained:
            try:
                wait_until(partial(_answers, socket))
                for probe in ("startupProbe", "livenessProbe"):
                    code, told = node.run(DAEMON, container, container[probe]["exec"]["command"])
                    assert code == 0, told
                code, told = node.run(CLIENTS, client, job)
                assert code == 0, told
                assert told.startswith(f"{places.SERVICE_CACHE}/trees/")
                assert os.path.isfile(f"{node.host(told.strip())}/saved_model.pb")
                assert len(origin.asked("/m/1")) == 1
                node.configure(here.replace('max_size = "200GB"', 'max_size = "300GB"'))
                wait_until(lambda: ask(socket, "GET", "/v1/status")[1]["cache"]["max_size_bytes"] == 300_000_000_000)
            finally:
                contained.send_signal(signal.SIGTERM)
        assert contained.returncode == 0, (tmp_path / "log").read_text()

    # While the daemon is upgraded, what is cached goes on resolving.
    code, again = node.run(CLIENTS, client, job)
    assert (code, again) == (0, told)


def _answers(socket: Path) -> bool:
    try:
        return ask(socket, "GET", "/v1/status")[0] == 200
    except OSError:
        return False

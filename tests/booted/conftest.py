"""One booted machine for all tests of this directory."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.booted.service import NEXT_VERSION, TENSORFLOW, USERS, WHEELS, ServiceMachine
from tests.support import debian
from tests.support.origin import Origin

_NEEDED = {"mmdebstrap": "mmdebstrap", "systemd-nspawn": "systemd-container"}


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceMachine]:
    """Booted, with two users and wheels of the project as it is now and of a next version; nothing is installed."""
    if os.geteuid() != 0:
        _refuse("only root can boot a container: sudo make test-system")
    if missing := [package for program, package in _NEEDED.items() if shutil.which(program) is None]:
        _refuse(f"apt-get install {' '.join(missing)}")
    tree, dependencies = debian.tree(), debian.dependencies()
    own = tmp_path_factory.mktemp("wheels")
    debian.build(own)
    debian.build(own, version=NEXT_VERSION)
    read_only = dict(zip((dependencies, own), WHEELS, strict=True))
    if (packages := debian.tensorflow()) is not None:
        read_only[packages] = TENSORFLOW
    with ServiceMachine(tree, name="hubd-test", read_only=read_only) as booted:
        booted.write("/etc/hosts", "127.0.0.1 localhost models.test\n")
        for user in USERS:
            booted.run("useradd", "--create-home", user)
        yield booted


@pytest.fixture(scope="session")
def origin(machine: ServiceMachine) -> Iterator[Origin]:
    """A scripted origin on the machine's loopback."""
    with machine.in_network(Origin) as running:
        yield running


def _refuse(reason: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(f"these tests must run: {reason}")
    pytest.skip(reason)

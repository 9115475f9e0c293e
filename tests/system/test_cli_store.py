"""The modules of the cache by hand: hubctl as its users run it, against a real daemon."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.archives import MODULE, archive
from tests.support.daemon import Daemon
from tests.support.hubctl import COMMAND, SECONDS, Terminal, environ_for, hubctl
from tests.support.origin import Answer, Origin


@pytest.fixture
def handles(daemon: Daemon, origin: Origin) -> list[str]:
    """Three cached modules; the last two share their content."""
    one, two = archive(MODULE), archive({**MODULE, "assets/words.txt": b"a\nb\n"})
    served = [origin.serve(f"/m/{version}", Answer(data)) for version, data in enumerate((one, two, two), 1)]
    assert all(daemon.resolve(handle)[0] == 200 for handle in served)
    return served


@contextmanager
def held(daemon: Daemon, handle: str) -> Iterator[int]:
    """The pid of a program that `hubctl exec` runs on the module."""
    with subprocess.Popen(
        [*COMMAND, "exec", handle, "--", "sh", "-c", "echo; read line"],
        env=environ_for(daemon),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        yield process.pid
        process.stdin.close()
        process.wait(SECONDS)


def module(daemon: Daemon, handle: str) -> Path:
    return Path(daemon.resolve(handle)[1]["path"])


def listed(daemon: Daemon, *options: str) -> list[str]:
    done = hubctl(daemon, "ls", "-q", *options)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def ended(daemon: Daemon, *arguments: str) -> Any:
    """The JSON of a command that did what it was told."""
    done = hubctl(daemon, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# rm


def test_rm_removes_and_a_shared_tree_goes_with_the_last_of_its_handles(daemon: Daemon, handles: list[str]) -> None:
    one, two, three = handles
    tree = module(daemon, two)
    first = hubctl(daemon, "rm", "--force", two)
    assert first.stdout == f"removed  {two}  nothing freed, the content is shared with {three}\n"
    assert tree.exists()
    last = hubctl(daemon, "rm", "--force", three)
    assert last.stdout.startswith(f"removed  {three}  ")
    assert last.stdout.endswith(" freed\n")
    assert not tree.exists()
    assert listed(daemon) == [one]
    assert "[not-found]" in hubctl(daemon, "rm", two).stderr


def test_what_a_program_holds_is_removed_by_force_alone(daemon: Daemon, handles: list[str]) -> None:
    with held(daemon, handles[0]):
        refused = hubctl(daemon, "rm", handles[0])
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "[in-use]" in refused.stderr
        assert "--force" in refused.stderr
        assert handles[0] in listed(daemon)
        assert hubctl(daemon, "rm", "--force", handles[0]).returncode == 0
    assert handles[0] not in listed(daemon)


# pin


def test_a_pin_fetches_is_listed_and_outlasts_a_prune(daemon: Daemon, origin: Origin, handles: list[str]) -> None:
    new = origin.serve("/new/1", Answer(archive({**MODULE, "assets/new.txt": b"new"})))
    done = hubctl(daemon, "pin", handles[0], new)
    assert (done.returncode, done.stdout) == (0, f"pinned  {handles[0]}\npinned  {new}\n")
    assert listed(daemon, "--filter", "pinned=true") == sorted([handles[0], new])
    assert " P" in hubctl(daemon, "ls", "--filter", "pinned=true").stdout.splitlines()[1]
    assert hubctl(daemon, "unpin", new).returncode == 0
    assert listed(daemon, "--filter", "pinned=true") == [handles[0]]


# prune


def test_prune_removes_until_the_size_is_reached_but_for_pins_and_leases(daemon: Daemon, handles: list[str]) -> None:
    daemon.kill()  # its own leases of 10 s on what it has just answered end with it
    daemon.start()
    assert hubctl(daemon, "pin", handles[0]).returncode == 0
    plan = ended(daemon, "prune", "--to-size", "0B", "--dry-run")
    assert [tree["handles"] for tree in plan["pruned"]] == [handles[1:]]
    assert listed(daemon) == handles
    with held(daemon, handles[1]):
        assert [tree["removed"] for tree in ended(daemon, "prune", "--to-size", "0B", "--yes")["pruned"]] in (
            [],
            [False],
        )
    daemon.kill()
    daemon.start()
    done = hubctl(daemon, "prune", "--to-size", "0B", "--yes")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"removed  {handles[1]}, {handles[2]}  ")
    assert done.stderr.startswith("2 modules removed, ")
    assert " pinned" in done.stderr
    assert listed(daemon) == [handles[0]]


def test_prune_by_age_spares_what_is_younger(daemon: Daemon, handles: list[str]) -> None:
    assert ended(daemon, "prune", "--older-than", "1h", "--yes")["pruned"] == []
    assert listed(daemon) == handles


def test_prune_on_a_terminal_asks_first(daemon: Daemon, handles: list[str]) -> None:
    daemon.kill()
    daemon.start()
    with Terminal(environ_for(daemon), ["prune", "--to-size", "0B"]) as terminal:
        terminal.read_until("[y/N]")
        terminal.type("n\n")
        terminal.read_until(None)
        assert terminal.process.wait(SECONDS) == 1
    assert listed(daemon) == handles


# verify


def test_verify_finds_damage_and_repairs_it(daemon: Daemon, handles: list[str]) -> None:
    assert ended(daemon, "verify", "--all")["summary"]["damaged"] == 0
    file = module(daemon, handles[0]) / "variables" / "variables.index"
    status = file.stat()
    file.write_bytes(b"INDEX")  # as long as before
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    found = hubctl(daemon, "verify", "--all")
    assert found.returncode == 1
    assert found.stdout == f"damaged  {handles[0]}  variables/variables.index\n"
    repaired = hubctl(daemon, "verify", "--repair", handles[0])
    assert repaired.returncode == 0, repaired.stderr
    assert (module(daemon, handles[0]) / "variables" / "variables.index").read_bytes() == b"index"
    assert hubctl(daemon, "verify", handles[0]).returncode == 0


# ls and show


def test_filters_are_the_daemons_and_a_bad_one_says_what_one_looks_like(daemon: Daemon, handles: list[str]) -> None:
    assert listed(daemon, "--filter", "handle~/m/1") == [handles[0]]
    assert listed(daemon, "--filter", "size>1TB") == []
    assert listed(daemon, "--filter", "used<1h", "--filter", "immutable=true", "--sort", "fetched", "--limit", "2")
    with held(daemon, handles[0]):
        assert handles[0] in listed(daemon, "--filter", "leased=true")
    bad = hubctl(daemon, "ls", "--filter", "colour=red")
    assert (bad.returncode, bad.stdout) == (2, "")  # wrong usage, as if hubctl itself had noticed
    assert "[request-invalid]" in bad.stderr


def test_show_tells_what_the_daemon_and_the_manifest_know(daemon: Daemon, handles: list[str]) -> None:
    shown = hubctl(daemon, "show", handles[1]).stdout
    for said in (
        f"handle          {handles[1]}\n",
        f"path            {module(daemon, handles[1])}\n",
        "pinned          no\n",
        f"same content    {handles[2]}\n",
        "  4 B  assets/words.txt\n",
        "variant serve\n  serving_default\n    input   x: float32 (?, 3)\n",
    ):
        assert said in shown
    by_daemon = ended(daemon, "show", handles[1])
    daemon.kill()
    by_files = ended(daemon, "show", handles[1])
    same = ("handle", "key", "digest", "content_digest", "path", "files", "meta_graphs", "size_bytes", "disk_bytes")
    assert {name: by_files[name] for name in same} == {name: by_daemon[name] for name in same}


def test_show_holders_names_the_program(daemon: Daemon, handles: list[str]) -> None:
    with held(daemon, handles[0]) as pid:
        holders = ended(daemon, "show", "--holders", handles[0])["holders"]
    assert [(one["holds"], one["uid"]) for one in holders if one["pid"] == pid] == [(["lease"], os.geteuid())]

"""`hubctl fleet`, and what tells of fleets elsewhere, with real daemons and a real S3 store."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from random import Random

from hubclient.contract import handles
from tests.support.archives import MODULE, archive
from tests.support.daemon import Daemon
from tests.support.hubctl import COMMAND, SECONDS, environ_for, hubctl
from tests.support.machines import BUCKET, Machines
from tests.support.origin import Answer, Origin
from tests.support.waiting import wait_until

STORE = f"s3://{BUCKET}"


def test_what_was_pushed_is_listed_had_by_others_and_pruned(
    machines: Machines, origin: Origin, one: Daemon, other: Daemon
) -> None:
    handle = origin.serve("/pushed/1", Answer(archive()))
    gone = origin.url("/gone/1")
    done = hubctl(one, "fleet", "push", handle, gone)
    assert (done.returncode, done.stdout) == (4, f"uploaded  {handle}\nfailed    {gone}\n")
    assert f"{gone}: 127.0.0.1 has no such module" in done.stderr
    assert hubctl(one, "fleet", "push", handle).stdout == f"there     {handle}\n"
    listed = json.loads(hubctl(one, "fleet", "ls", "--json").stdout)["modules"]
    assert [(module["handle"], module["has_archive"]) for module in listed] == [(handle, True)]
    origin.serve("/pushed/1", Answer(status=404))
    had = hubctl(other, "get", handle)
    assert {name: Path(had.stdout.strip(), name).read_bytes() for name in MODULE} == MODULE
    assert had.stderr.splitlines()[-1].endswith(", from the fleet's store")
    assert "1 found" in hubctl(other, "fleet", "status").stdout
    assert "; 1 found, 0 uploaded" in hubctl(other, "status").stdout
    plan = hubctl(other, "fleet", "prune", "--older-than", "0s", "--dry-run")
    assert handle in plan.stdout
    assert machines.record(handle) is not None
    pruned = hubctl(other, "fleet", "prune", "--older-than", "0s", "--yes")
    assert pruned.stdout.startswith(f"removed  {handle}  record  ")
    assert hubctl(other, "fleet", "ls", "-q").stdout == ""


def test_a_lock_file_warms_the_store_for_machines_that_come_later(
    machines: Machines, origin: Origin, one: Daemon, other: Daemon, tmp_path: Path
) -> None:
    lock = str(tmp_path / "hub.lock")
    wanted = [origin.serve(f"/locked{number}/1", Answer(archive({**MODULE, "n": b"%d" % number}))) for number in (1, 2)]
    assert hubctl(one, "lock", *wanted, "-o", lock).returncode == 0
    for handle in wanted:
        machines.wait_until_shared(handle)
    machines.remove(f"handles/{handles.key(wanted[0])}.json")
    done = hubctl(one, "sync", "--to-store", lock)
    assert (done.returncode, sorted(done.stdout.split())) == (0, sorted(["uploaded", "there", *wanted])), done.stderr
    for number in (1, 2):
        origin.serve(f"/locked{number}/1", Answer(status=404))
    synced = hubctl(other, "sync", lock)
    assert (synced.returncode, synced.stdout.count("fetched  ")) == (0, 2), synced.stderr


def test_who_waits_for_another_machine_is_told_so(
    machines: Machines, origin: Origin, one: Daemon, other: Daemon
) -> None:
    body = archive({**MODULE, "assets/large.bin": Random(1).randbytes(1 << 20)})
    answer = Answer(body, gate_after_bytes=len(body) // 2)
    handle = origin.serve("/slow/1", answer)
    first = subprocess.Popen([*COMMAND, "get", "-q", handle], env=environ_for(one), stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: machines.claim(handle) is not None)
        with subprocess.Popen(
            [*COMMAND, "get", handle], env=environ_for(other), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as second:
            assert second.stderr is not None
            lines = iter(second.stderr.readline, "")
            assert any(line.startswith(f"waiting  {handle}, another machine fetches it") for line in lines)
            assert f"waiting  {handle}, another machine fetches it" in hubctl(other, "status").stdout
            answer.gate.set()
            assert [*lines][-1].endswith(", from the fleet's store\n")
        assert (second.returncode, first.wait(SECONDS)) == (0, 0)
    finally:
        first.kill()
        first.wait()
    assert len(origin.asked("/slow/1")) == 1


def test_a_store_that_is_away_costs_nobody_a_module_and_is_told(machines: Machines, origin: Origin) -> None:
    handle = origin.serve("/away/1", Answer(archive()))
    with machines.machine("alone", endpoint="http://127.0.0.1:9") as daemon:
        assert hubctl(daemon, "get", handle).returncode == 0
        shown = hubctl(daemon, "fleet", "status")
        assert shown.returncode == 0
        assert shown.stdout.startswith(f"! the fleet's store {STORE}/{machines.prefix} does not answer: ")
        assert "1 for this machine alone" in shown.stdout
        doctor = json.loads(hubctl(daemon, "doctor", "--json").stdout)
        assert [one["state"] for one in doctor["checks"] if one["check"] == "fleet"] == ["warn"]
        pushed = hubctl(daemon, "fleet", "push", handle)
        assert pushed.returncode == 1
        assert "`hubctl fleet status` says how it is" in pushed.stderr


def test_a_machine_that_only_reads_is_told_that_it_writes_nothing(machines: Machines, origin: Origin) -> None:
    with machines.machine("reader", fleet='mode = "read-only"') as daemon:
        pushed = hubctl(daemon, "fleet", "push", origin.url("/m/1"))
        pruned = hubctl(daemon, "fleet", "prune", "--older-than", "1d", "--yes")
        assert "read-only" in hubctl(daemon, "fleet", "status").stdout
    for done in (pushed, pruned):
        assert (done.returncode, done.stdout) == (1, "")
        assert "this machine writes nothing to the store [request-invalid]" in done.stderr

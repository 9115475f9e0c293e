"""hubd as a service of a machine with a real systemd and real users, told as a story: from its installing to its end.

Law: each test finds the machine as the one before has left it, and leaves a service that is well; so they run in their
order, and the first that fails is the last.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest

from hubclient import pack
from tests.booted.service import CACHE, CONFIG, NEXT_VERSION, SOCKET, TENSORFLOW, ServiceMachine
from tests.support import debian
from tests.support.archives import MODULE, archive
from tests.support.building import Modules
from tests.support.origin import Answer, Origin
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(300)  # the first one also makes what is kept for later runs

KEYS = "/etc/hubd/bucket.ini"
SOME = Answer(archive())
LARGE = archive({**MODULE, "assets/random": Random(7).randbytes(1 << 20)})

# Told by a signal, the event loop never goes on, and all other threads do.
HANGS_WHEN_TOLD = """
import signal, sys, time
from hubd.__main__ import main
signal.signal(signal.SIGUSR2, lambda *_: time.sleep(3600))
sys.exit(main(["run"]))
"""


def waiters(machine: ServiceMachine) -> int:
    return int(machine.status()["waiters"])


def test_installing_takes_three_commands(machine: ServiceMachine) -> None:
    machine.run("python3", "-m", "venv", "/opt/hubd")
    machine.install()
    assert machine.run("systemctl", "is-enabled", "hubd.socket").strip() == "enabled"
    assert machine.is_active("hubd.socket")
    assert machine.run("stat", "-c", "%F %a", SOCKET).strip() == "socket 666"
    assert machine.run("stat", "-c", "%U %a", CONFIG).split() == ["root", "644"]
    machine.run("hubd", "check-config", CONFIG)
    machine.configure()


def test_the_first_request_starts_the_service_and_waits_for_it(machine: ServiceMachine, origin: Origin) -> None:
    machine.run("systemctl", "stop", "hubd.service")
    assert machine.is_active("hubd.socket")
    path = machine.get("alice", origin.serve("/first/1", SOME).replace("127.0.0.1", "models.test"))
    assert path.startswith(f"{CACHE}/trees/")
    assert machine.is_active("hubd.service")
    assert machine.run("stat", "-c", "%U %a", CACHE).split() == ["hubd", "755"]
    assert machine.run("stat", "-c", "%U", f"/proc/{machine.pid}").strip() == "hubd"
    assert machine.status()["warnings"] == []


def test_two_users_ask_at_once_and_the_origin_is_asked_once(machine: ServiceMachine, origin: Origin) -> None:
    answer = Answer(LARGE, gate_after_bytes=600_000)
    handle = origin.serve("/both/1", answer)
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(machine.get, user, handle) for user in ("alice", "bob")]
        wait_until(lambda: waiters(machine) == 2)
        answer.gate.set()
        first, second = (waiting.result() for waiting in asked)
    assert first == second
    assert len(origin.asked("/both/1")) == 1
    for user in ("alice", "bob"):
        machine.run("cmp", f"{first}/saved_model.pb", f"{first}/saved_model.pb", user=user)
        for path in (f"{first}/saved_model.pb", first, f"{CACHE}/trees", CACHE):
            assert machine.attempt("test", "-w", path, user=user).returncode == 1


def test_a_user_loads_a_module_by_its_path(machine: ServiceMachine, origin: Origin, tmp_path: Path) -> None:
    if debian.tensorflow() is None:
        pytest.skip(f"there is no TensorFlow for CPython {debian.PYTHON} here")
    pack(Modules(str(tmp_path))("tf2/stateful"), str(tmp_path / "stateful.tar.gz"))
    handle = origin.serve("/stateful/1", Answer((tmp_path / "stateful.tar.gz").read_bytes()))
    code = f"""
import tensorflow as tf, hubclient as hub
assert tf.saved_model.load(hub.resolve({handle!r}))([2.0]).numpy() == [3.0]
assert hub.load({handle!r})([2.0]).numpy() == [3.0]
"""
    quiet = {"PYTHONPATH": TENSORFLOW, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONDONTWRITEBYTECODE": "1"}
    machine.run("/opt/hubd/bin/python", "-c", code, user="alice", environ=quiet)


def test_what_administrators_may_do_is_refused_to_users(machine: ServiceMachine, origin: Origin) -> None:
    handle = origin.serve("/pinned/1", SOME)
    machine.get("alice", handle)
    for command in (("pin", handle), ("rm", handle), ("prune", "--yes", "--older-than=1d"), ("verify", "--all")):
        refused = machine.hubctl("alice", *command)
        assert refused.returncode == 1
        assert "[access-denied]" in refused.stderr
        accepted = machine.hubctl(None, *command)
        assert accepted.returncode == 0, accepted.stderr


def test_members_of_the_group_hubd_are_administrators(machine: ServiceMachine, origin: Origin) -> None:
    handle = origin.serve("/of-group/1", SOME)
    machine.run("useradd", "--create-home", "--groups", "hubd", "carol")
    machine.get("carol", handle)
    pinned = machine.hubctl("carol", "pin", handle)
    assert pinned.returncode == 0, pinned.stderr
    machine.run("gpasswd", "--delete", "carol", "hubd")
    assert "[access-denied]" in machine.hubctl("carol", "unpin", handle).stderr


def test_a_cache_for_some_users_is_closed_to_all_others(machine: ServiceMachine, origin: Origin) -> None:
    handle = origin.serve("/for-alice/1", SOME)
    machine.configure('[access]\nusers = ["alice"]\n')
    machine.run("systemctl", "reload", "hubd.service")
    wait_until(lambda: "[access-denied]" in machine.hubctl("bob", "status").stderr)
    path = machine.get("alice", handle)
    refused = machine.hubctl("bob", "get", handle)
    assert refused.returncode == 1
    assert "[access-denied]" in refused.stderr
    machine.run("systemctl", "restart", "hubd.service")  # which sets the mode of the cache anew
    assert machine.attempt("cat", f"{path}/saved_model.pb", user="bob").returncode == 1
    machine.run("cmp", f"{path}/saved_model.pb", f"{path}/saved_model.pb", user="alice")
    machine.configure()
    machine.run("systemctl", "reload", "hubd.service")
    wait_until(lambda: machine.hubctl("bob", "status").returncode == 0)
    assert machine.get("bob", handle) == path
    machine.run("cmp", f"{path}/saved_model.pb", f"{path}/saved_model.pb", user="bob")


def test_a_bucket_is_reached_under_the_units_limits(machine: ServiceMachine, origin: Origin) -> None:
    url = origin.serve("/bucket/module.tar.gz", SOME)
    machine.write(KEYS, "[default]\naws_access_key_id = some\naws_secret_access_key = secret\n", mode="0640")
    machine.run("chgrp", "hubd", KEYS)
    machine.configure(
        f'[[object_store]]\nmatch = "s3://bucket"\nendpoint = "{url.removesuffix("/bucket/module.tar.gz")}"\n'
        f'[[credential]]\nstore = "s3://bucket"\ntype = "aws-keys"\nfile = "{KEYS}"\n'
    )
    machine.run("systemctl", "reload", "hubd.service")
    wait_until(lambda: machine.hubctl("alice", "get", "-q", "s3://bucket/module.tar.gz").returncode == 0)
    signed = [asked.target for asked in origin.asked("/bucket/module.tar.gz")]
    assert signed
    assert all("X-Amz-Signature=" in target for target in signed), "obstore has signed it"
    machine.configure()
    machine.run("systemctl", "reload", "hubd.service")


def test_reloading_applies_what_was_changed_and_a_bad_file_changes_nothing(
    machine: ServiceMachine, origin: Origin
) -> None:
    handle, pid = origin.serve("/too-large/1", Answer(LARGE)), machine.pid
    machine.configure('[limits]\narchive = "10KB"\n[log]\nlevel = "error"\n')
    machine.run("systemctl", "reload", "hubd.service")
    wait_until(lambda: "archive-too-large" in machine.hubctl("alice", "get", handle).stderr)
    since = machine.cursor()
    machine.get("alice", origin.serve("/untold/1", SOME))
    assert not [line for line in machine.journal(since) if line.is_the_daemons]
    machine.configure("[limits]\narchives = 3\n")
    machine.run("systemctl", "reload", "hubd.service")
    wait_until(lambda: "archives" in (machine.status()["config"]["problem"] or ""))
    assert [line for line in machine.journal(since) if line.priority <= 4 and "limits.archives" in line.text]
    assert "archive-too-large" in machine.hubctl("alice", "get", handle).stderr
    machine.configure()
    machine.run("systemctl", "reload", "hubd.service")
    wait_until(lambda: machine.status()["config"]["problem"] is None)
    machine.get("alice", handle)
    assert [line for line in machine.journal(since) if line.priority == 6 and handle in line.text]
    assert machine.pid == pid


def test_a_prefetch_file_is_noticed_when_it_comes_and_when_it_goes(machine: ServiceMachine, origin: Origin) -> None:
    handle, file = origin.serve("/ahead/1", SOME), "/etc/hubd/prefetch.d/team.toml"
    machine.write(file, f'handles = ["{handle}"]\npin = true\n')
    wait_until(lambda: [(told["pinned"], told["done"]) for told in machine.status()["prefetch"]] == [(1, 1)])
    assert len(origin.asked("/ahead/1")) == 1
    machine.run("rm", file)
    wait_until(lambda: machine.status()["prefetch"] == [])


def test_no_client_fails_while_the_service_restarts_under_load(machine: ServiceMachine, origin: Origin) -> None:
    handles = [origin.serve(f"/load-{number}/1", SOME) for number in range(3)]
    slow = origin.serve("/slow/1", Answer(LARGE, etag='"1"', ranges=True, bytes_per_second=400_000))
    with machine.load("alice", *handles) as one, machine.load("bob", *handles) as other, ThreadPoolExecutor(1) as pool:
        fetched = pool.submit(machine.get, "alice", slow)
        for _ in range(3):
            pid = machine.pid
            machine.run("systemctl", "restart", "hubd.service")
            assert machine.pid not in (0, pid)
            one.wait_for_more()
            other.wait_for_more()
        assert fetched.result()
        (asked, failures), (others, other_failures) = one.finish(), other.finish()
    assert failures + other_failures == []
    assert asked + others >= 100
    assert origin.sent_bytes("/slow/1") < 2 * len(LARGE)  # it went on where it was


def test_a_killed_daemon_is_back_at_once_and_what_it_did_is_done(machine: ServiceMachine, origin: Origin) -> None:
    # What the daemon that is killed has published itself: of what lay there before it started, none is in doubt.
    machine.get("alice", origin.serve("/in-doubt/1", Answer(archive({**MODULE, "assets/in-doubt": b""}))))
    answer = Answer(LARGE, gate_after_bytes=600_000)
    handle, pid, restarts, since = origin.serve("/killed/1", answer), machine.pid, machine.restarts, machine.cursor()
    with ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(machine.get, user, handle) for user in ("alice", "bob")]
        wait_until(lambda: waiters(machine) == 2)
        machine.run("systemctl", "kill", "--signal=KILL", "hubd.service")
        answer.gate.set()
        first, second = (waiting.result() for waiting in asked)
    assert first == second
    assert machine.status()["pid"] != pid
    assert machine.restarts == restarts + 1
    assert [line for line in machine.journal(since) if line.priority == 4 and "was not clean" in line.text]
    assert machine.hubctl(None, "verify", "--all").returncode == 0


def test_a_daemon_whose_loop_hangs_is_restarted_and_who_waits_for_it_is_served(
    machine: ServiceMachine, origin: Origin
) -> None:
    machine.write("/opt/hangs.py", HANGS_WHEN_TOLD)
    hangs = "ExecStart=\nExecStart=/opt/hubd/bin/python -P /opt/hangs.py\n"
    machine.drop_in("hangs", f"[Service]\n{hangs}WatchdogSec=2s\n")
    machine.run("systemctl", "restart", "hubd.service")
    pid, restarts, since = machine.pid, machine.restarts, machine.cursor()
    machine.run("systemctl", "kill", "--kill-whom=main", "--signal=USR2", "hubd.service")
    machine.get("alice", origin.serve("/hung/1", SOME))
    assert machine.pid not in (0, pid)
    assert machine.restarts > restarts  # a busy machine may keep the next one from a sign of life within 2 s, too
    assert any("Watchdog timeout" in line.text for line in machine.journal(since))
    machine.drop_in("hangs", "")
    machine.run("systemctl", "restart", "hubd.service")


def test_the_socket_stays_when_the_service_stops(machine: ServiceMachine, origin: Origin) -> None:
    machine.run("systemctl", "stop", "hubd.service")
    assert machine.is_active("hubd.socket")
    assert not machine.is_active("hubd.service")
    assert machine.run("stat", "-c", "%F", SOCKET).strip() == "socket"
    assert machine.get("bob", origin.serve("/after-stop/1", SOME))
    assert machine.is_active("hubd.service")


def test_the_socket_stays_in_a_crash_loop_and_whoever_waits_is_served_when_it_ends(
    machine: ServiceMachine, origin: Origin
) -> None:
    # More often within 10 s than systemd lets a unit fail that says nothing of it: five times.
    machine.drop_in("soon", "[Service]\nRestartSec=50ms\nExecStartPre=/bin/false\n")
    machine.attempt("systemctl", "restart", "hubd.service")
    wait_until(lambda: machine.restarts >= 7)
    machine.configure("[limits]\narchives = 3\n")
    machine.drop_in("soon", "[Service]\nRestartSec=50ms\n")
    since, restarts = machine.cursor(), machine.restarts
    wait_until(lambda: machine.restarts >= restarts + 2)
    assert [line for line in machine.journal(since) if line.priority == 3 and "limits.archives" in line.text]
    assert machine.is_active("hubd.socket")
    handle = origin.serve("/patient/1", SOME)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(machine.get, "alice", handle)
        restarts = machine.restarts
        wait_until(lambda: machine.restarts > restarts)
        machine.configure()
        assert waiting.result()
    assert len(origin.asked("/patient/1")) == 1
    assert machine.run("find", "/home", "-name", "hubd*").strip() == ""
    machine.drop_in("soon", "")


def test_with_the_service_stopped_clients_say_so_and_start_none_of_their_own(
    machine: ServiceMachine, origin: Origin
) -> None:
    cached, absent = origin.serve("/cached/1", SOME), origin.serve("/absent/1", SOME)
    path = machine.get("alice", cached)
    machine.run("systemctl", "stop", "hubd.socket", "hubd.service")
    refused = machine.hubctl("alice", "get", absent, HUBD_TIMEOUT="1")
    assert refused.returncode == 3
    assert "systemctl status hubd" in refused.stderr
    assert machine.attempt("pgrep", "-f", "hubd run").returncode != 0
    assert machine.run("find", "/home", "-name", "hubd*").strip() == ""
    assert origin.asked("/absent/1") == []
    assert machine.get("alice", cached) == path  # what is cached needs no daemon
    machine.run("systemctl", "start", "hubd.socket")
    machine.get("alice", absent)


def test_what_the_daemon_writes_has_its_level_in_the_journal(machine: ServiceMachine) -> None:
    since = machine.cursor()
    machine.configure('[[host]]\nname = "models.example.org"\nverify = false\n')
    machine.run("systemctl", "restart", "hubd.service")
    written = [line for line in machine.journal(since) if line.is_the_daemons]
    assert [line.priority for line in written if "ready on" in line.text] == [6]
    assert [line.priority for line in written if "are not verified" in line.text] == [4]
    machine.configure()
    machine.run("systemctl", "restart", "hubd.service")


def test_upgrading_a_running_service_fails_no_client(machine: ServiceMachine, origin: Origin) -> None:
    handles = [origin.serve(f"/load-{number}/1", SOME) for number in range(3)]
    asked_before = [len(origin.asked(f"/load-{number}/1")) for number in range(3)]
    machine.run("sed", "-i", "1i # an administrator was here", CONFIG)
    with machine.load("alice", *handles) as load:
        machine.install(NEXT_VERSION)
        wait_until(lambda: machine.status()["version"] == NEXT_VERSION)
        load.wait_for_more()
        asked, failures = load.finish()
    assert failures == []
    assert asked >= 10
    assert machine.run("head", "-n1", CONFIG).startswith("# an administrator was here")
    assert [len(origin.asked(f"/load-{number}/1")) for number in range(3)] == asked_before  # the cache went along


def test_uninstalling_leaves_the_cache_and_the_configuration_unless_told(
    machine: ServiceMachine, origin: Origin
) -> None:
    path = machine.get("bob", origin.serve("/last/1", SOME))
    machine.run("hubd", "uninstall", "--system")
    for unit in ("hubd.service", "hubd.socket"):
        assert machine.shown(unit, "LoadState") == "not-found"
    assert machine.attempt("test", "-e", "/run/hubd").returncode == 1  # or clients would wait for a service
    machine.run("cat", f"{path}/saved_model.pb", CONFIG, user="bob")
    assert machine.run("id", "-u", "hubd")
    machine.run("hubd", "install", "--system")
    assert machine.get("bob", origin.serve("/last/1", SOME)) == path
    machine.configure(instead='[cache]\ndir = "/data/hubd"\n')  # yet systemd has made CACHE
    machine.run("hubd", "uninstall", "--system", "--purge")
    for place in (CACHE, "/etc/hubd", "/run/hubd"):
        assert machine.attempt("test", "-e", place).returncode == 1, place
    assert machine.run("systemctl", "is-system-running").strip() == "running"

"""A fleet whose machines die and whose store fails: each client has its module in time, and nothing wrong is published.

Each promise is kept on every store: S3 (moto) and Azure (Azurite).
"""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hubclient.contract import handles
from tests.support.archives import MODULE, archive
from tests.support.clocks import wrong_by
from tests.support.front import SLOW_DOWN, UNAVAILABLE, Fault, Request, Script
from tests.support.fronted import BOUND_SECONDS, Fleet, Machine
from tests.support.origin import Answer, Origin
from tests.support.waiting import wait_until

NOISE = random.Random(8).randbytes(3_000_000)
ARCHIVE = archive({**MODULE, "assets/noise": NOISE})
DIGEST = hashlib.sha256(ARCHIVE).hexdigest()
WHOLE = Answer(ARCHIVE, ranges=True, etag='"v1"')
PATH = "/m/1"
PATIENT = 10  # seconds

# What the protocol stands on is seen on each store in every run; all else on Azure in thorough ones alone.
on_every_store = pytest.mark.parametrize("bucket", ["s3", "azure"], indirect=True)
thorough = pytest.mark.thorough


def only(wanted: Callable[[Request], bool], fault: Fault) -> Script:
    """The fault for these requests, and nothing for all others."""
    return lambda request: fault if wanted(request) else None


def always(fault: Fault) -> Script:
    return lambda _: fault


def writes(kind: str) -> Callable[[Request], bool]:
    return lambda request: request.kind == kind and request.is_writing


def reads(kind: str) -> Callable[[Request], bool]:
    return lambda request: request.kind == kind and request.method == "GET"


def assert_whole(answer: Future[tuple[int, Any]], *tiers: str) -> None:
    """The module, byte for byte, in time, and from one of these."""
    status, told = answer.result(BOUND_SECONDS)
    assert (status, told.get("outcome")) == (200, "fetched"), told
    assert told["digest"] == DIGEST
    assert told["tier"] in tiers, told
    for name, data in {**MODULE, "assets/noise": NOISE}.items():
        assert (Path(told["path"]) / name).read_bytes() == data


def claims(handle: str) -> Callable[[Request], bool]:
    """Writes of the handle's claim. At its start each machine writes another one, to see whether it may."""
    path = f"/claims/{handles.key(handles.canonical(handle))}.json"
    return lambda request: request.is_writing and path in request.target


def claimed(machine: Machine, handle: str) -> None:
    """Until this machine has written its claim."""
    machine.front.await_request(claims(handle))


def left_alone(machine: Machine) -> None:
    """Until this machine takes the store for one that is away."""
    wait_until(lambda: machine.fleet()["state"] == "away")


def waiting(machine: Machine, handle: str) -> None:
    """Until this machine waits for another one."""

    def waits() -> bool:
        fetches = machine.request("GET", "/v1/fetches")[1]["fetches"]
        return any(fetch["state"] == "waiting" for fetch in fetches if fetch["handle"] == handle)

    wait_until(waits)


def shared(fleet: Fleet) -> None:
    """Until the module is in the store, and nobody claims it any more."""
    wait_until(lambda: len(fleet.records()) == 1 and not fleet.claims())


@on_every_store
def test_the_origin_is_asked_once_for_all_machines(fleet: Fleet, origin: Origin) -> None:
    handle = origin.serve(PATH, replace(WHOLE, bytes_per_second=3_000_000))
    crowd = [fleet.add(name, claim_seconds=PATIENT) for name in "abc"]
    answers = [machine.ask(handle) for machine in crowd]
    for answer in answers:
        assert_whole(answer, "origin", "fleet")
    assert sorted(answer.result()[1]["tier"] for answer in answers) == ["fleet", "fleet", "origin"]
    assert len(origin.asked(PATH)) == 1
    shared(fleet)
    fleet.assert_right(ARCHIVE)


@on_every_store
def test_a_claimer_that_is_killed_in_mid_fetch_is_followed_by_another(fleet: Fleet, origin: Origin) -> None:
    stuck = replace(WHOLE, gate_after_bytes=1_000_000)
    handle = origin.serve(PATH, stuck)
    first, second = fleet.add("a"), fleet.add("b")
    first.ask(handle)
    origin.wait_until_asked(PATH)
    claimed(first, handle)
    answer = second.ask(handle)
    waiting(second, handle)
    origin.serve(PATH, WHOLE)
    first.kill()
    assert origin.sent_bytes(PATH) <= 1_000_000
    stuck.gate.set()
    assert_whole(answer, "origin")
    assert len(origin.asked(PATH)) == 2
    shared(fleet)
    fleet.assert_right(ARCHIVE)


@pytest.mark.parametrize(
    ("moment", "wanted"),
    [
        pytest.param("in mid-upload", writes("archives"), id="in-mid-upload", marks=thorough),
        pytest.param("before the record", writes("handles"), id="before-the-record"),
    ],
)
def test_a_claimer_that_is_killed_while_it_shares_is_followed_by_another(
    fleet: Fleet, origin: Origin, moment: str, wanted: Callable[[Request], bool]
) -> None:
    handle = origin.serve(PATH, WHOLE)
    gate = threading.Event()
    first, second = fleet.add("a", only(wanted, Fault(gate=gate))), fleet.add("b")
    assert_whole(first.ask(handle), "origin")  # its own clients do not wait for the store
    first.front.await_request(wanted)
    answer = second.ask(handle)
    waiting(second, handle)
    assert not fleet.records(), moment
    first.kill()
    assert_whole(answer, "origin")
    gate.set()  # what the dead one had on its way arrives late
    shared(fleet)
    fleet.assert_right(ARCHIVE)
    assert_whole(fleet.add("c").ask(handle), "fleet")


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(UNAVAILABLE, id="503", marks=thorough),
        pytest.param(SLOW_DOWN, id="slow-down"),
        pytest.param(Fault(is_silent=True), id="silence", marks=thorough),
        pytest.param(Fault(status=500), id="500", marks=thorough),
        pytest.param(Fault(is_lost=True), id="lost-answers", marks=thorough),
    ],
)
def test_a_store_that_fails_leaves_each_machine_as_it_is_alone(fleet: Fleet, origin: Origin, fault: Fault) -> None:
    handle = origin.serve(PATH, WHOLE)
    crowd = [fleet.add(name) for name in "ab"]
    for machine in crowd:  # at one time, for what follows is for a while alone
        machine.front.script = always(fault)
    answers = [machine.ask(handle) for machine in crowd]
    for answer in answers:
        assert_whole(answer, "origin")
    assert len(origin.asked(PATH)) == 2
    for machine in crowd:
        left_alone(machine)
        # From now on nobody waits for it, until a while is over.
        before = len(machine.front.asked)
        other = origin.serve("/other/1", WHOLE)
        assert_whole(machine.ask(other), "origin")
        assert len(machine.front.asked) == before
    fleet.assert_right(ARCHIVE)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(UNAVAILABLE, id="503"),
        pytest.param(Fault(status=404), id="gone", marks=thorough),
        pytest.param(Fault(stall_after_bytes=1_000_000), id="stalls", marks=thorough),
        pytest.param(Fault(cut_after_bytes=1_000_000), id="cut", marks=thorough),
        pytest.param(Fault(damage_at=2_000_000), id="damaged", marks=thorough),
        pytest.param(Fault(headers={"ETag": '"other"'}), id="another-etag", marks=thorough),
    ],
)
def test_an_archive_that_the_store_cannot_give_is_had_from_the_origin(
    fleet: Fleet, origin: Origin, fault: Fault
) -> None:
    handle = origin.serve(PATH, WHOLE)
    assert_whole(fleet.add("a").ask(handle), "origin")
    shared(fleet)
    second = fleet.add("b", only(reads("archives"), fault), stall_seconds=2)
    assert_whole(second.ask(handle), "origin", "fleet")
    fleet.assert_right(ARCHIVE)
    assert_whole(fleet.add("c").ask(handle), "fleet", "origin")


@pytest.mark.parametrize(
    "damage", ["a byte", pytest.param("its end", marks=thorough), pytest.param("all of it", marks=thorough)]
)
def test_a_damaged_archive_is_never_published_and_is_mended(fleet: Fleet, origin: Origin, damage: str) -> None:
    handle = origin.serve(PATH, WHOLE)
    assert_whole(fleet.add("a").ask(handle), "origin")
    shared(fleet)
    path = fleet.archive_path(ARCHIVE)
    bad = {
        "a byte": ARCHIVE[:1_500_000] + b"\0" + ARCHIVE[1_500_001:],
        "its end": ARCHIVE[:-100_000],
        "all of it": archive({"saved_model.pb": MODULE["saved_model.pb"], "assets/other": b"x" * 1000}),
    }[damage]
    fleet.bucket.write(path, bad)
    second = fleet.add("b")
    assert_whole(second.ask(handle), "origin")
    wait_until(lambda: fleet.bucket.read(path) == ARCHIVE)
    shared(fleet)
    fleet.assert_right(ARCHIVE)
    assert_whole(fleet.add("c").ask(handle), "fleet")
    assert len(origin.asked(PATH)) == 2


@on_every_store
def test_a_lost_race_for_the_claim_is_no_second_fetch(fleet: Fleet, origin: Origin) -> None:
    """Both see that nobody claims the module, and the claim of one is on its way for long: the other's comes first."""
    handle = origin.serve(PATH, replace(WHOLE, bytes_per_second=3_000_000))
    gate = threading.Event()
    late = fleet.add("a", only(claims(handle), Fault(gate=gate)), claim_seconds=PATIENT)
    quick = fleet.add("b", claim_seconds=PATIENT)
    quick.lines("GET", "/v1/fleet/modules")  # loads what takes a while: the late one waits for four seconds
    answers = [late.ask(handle)]
    claimed(late, handle)
    answers.append(quick.ask(handle))
    origin.wait_until_asked(PATH)
    gate.set()
    assert_whole(answers[0], "fleet")
    assert_whole(answers[1], "origin")
    assert len(origin.asked(PATH)) == 1
    shared(fleet)
    fleet.assert_right(ARCHIVE)


def test_a_claim_whose_answer_is_lost_keeps_nobody_waiting(fleet: Fleet, origin: Origin) -> None:
    """The store has the claim, and its holder does not know."""
    handle = origin.serve(PATH, WHOLE)
    lost = Fault(is_lost=True)
    left = [lost]

    def script(request: Request) -> Fault | None:
        return left.pop() if left and claims(handle)(request) else None

    first, second = fleet.add("a", script), fleet.add("b")
    answers = [first.ask(handle)]
    claimed(first, handle)
    answers.append(second.ask(handle))
    for answer in answers:
        assert_whole(answer, "origin", "fleet")
    shared(fleet)
    fleet.assert_right(ARCHIVE)


@thorough
def test_a_lost_race_for_the_record_keeps_the_first_one(fleet: Fleet, origin: Origin) -> None:
    """The first is so slow that it was taken for dead, and its record comes after the other's."""
    handle = origin.serve(PATH, WHOLE)
    gate = threading.Event()
    slow, quick = fleet.add("a", only(writes("handles"), Fault(gate=gate))), fleet.add("b")
    assert_whole(slow.ask(handle), "origin")
    slow.front.await_request(writes("handles"))
    assert_whole(quick.ask(handle), "origin")
    wait_until(lambda: len(fleet.records()) == 1)
    written = fleet.records()
    gate.set()
    shared(fleet)
    wait_until(lambda: not slow.fleet()["uploads"])
    assert fleet.records() == written
    fleet.assert_right(ARCHIVE)


@thorough
def test_other_content_of_an_immutable_handle_is_told_and_never_mixed(fleet: Fleet, origin: Origin) -> None:
    """The origin gave one machine something else than another: what the fleet has first stays, and it is an error."""
    other = archive({**MODULE, "assets/noise": NOISE[::-1]})
    handle = origin.serve(PATH, replace(WHOLE, body=other))
    alone = fleet.add("a", always(UNAVAILABLE))
    status, told = alone.ask(handle).result(BOUND_SECONDS)
    assert (status, told["digest"]) == (200, hashlib.sha256(other).hexdigest())
    origin.serve(PATH, WHOLE)
    assert_whole(fleet.add("b").ask(handle), "origin")
    shared(fleet)
    status, told = (
        fleet.add("c").ask(handle, digest=f"sha256:{hashlib.sha256(other).hexdigest()}").result(BOUND_SECONDS)
    )
    assert (status, told["code"]) == (409, "digest-mismatch"), told
    fleet.assert_right(ARCHIVE)


def test_a_machine_that_is_parted_from_the_store_gets_its_module_and_comes_back(fleet: Fleet, origin: Origin) -> None:
    """The holder itself: whoever waits for it takes over when it has not been heard of for a while."""
    handle = origin.serve(PATH, replace(WHOLE, bytes_per_second=800_000))  # longer than a claim is believed
    parted, other = fleet.add("a"), fleet.add("b")
    answers = [parted.ask(handle)]
    claimed(parted, handle)
    answers.append(other.ask(handle))
    waiting(other, handle)
    parted.front.script = always(Fault(is_silent=True))
    origin.serve(PATH, WHOLE)
    assert_whole(answers[1], "origin")
    assert_whole(answers[0], "origin")
    shared(fleet)
    fleet.assert_right(ARCHIVE)


@pytest.mark.parametrize("minutes", [pytest.param(-7, marks=thorough), 7])
def test_clocks_that_differ_by_minutes_change_nothing(fleet: Fleet, origin: Origin, minutes: int) -> None:
    """Neither a holder that lives is taken for dead, nor a dead one for living."""
    handle = origin.serve(PATH, replace(WHOLE, bytes_per_second=600_000))  # for longer than a claim is believed
    right = fleet.add("a", claim_seconds=4)
    wrong = fleet.add("b", claim_seconds=4, environ=wrong_by(minutes))
    answers = [right.ask(handle)]
    claimed(right, handle)
    answers.append(wrong.ask(handle))
    assert_whole(answers[0], "origin")
    assert_whole(answers[1], "fleet")
    assert len(origin.asked(PATH)) == 1
    # And the other way round, with a holder that dies.
    stuck = replace(WHOLE, gate_after_bytes=1_000_000)
    other = origin.serve("/other/1", stuck)
    wrong.ask(other)
    origin.wait_until_asked("/other/1")
    answer = right.ask(other)
    waiting(right, other)
    origin.serve("/other/1", WHOLE)
    wrong.kill()
    stuck.gate.set()
    assert_whole(answer, "origin")
    wait_until(lambda: len(fleet.records()) == 2 and not fleet.claims())
    fleet.assert_right(ARCHIVE)


@pytest.mark.parametrize("minutes", [-60, pytest.param(60, marks=thorough)])
def test_how_old_a_record_is_tells_the_store_alone(fleet: Fleet, origin: Origin, minutes: int) -> None:
    """What may change is asked about after ten minutes, and the clock of the store differs by an hour."""
    handle = origin.serve("/unversioned", WHOLE)
    wrong, network = always(Fault(clock_minutes=minutes)), 'revalidate_after = "10min"'
    assert_whole(fleet.add("a", wrong, network=network).ask(handle), "origin")
    shared(fleet)
    assert_whole(fleet.add("b", wrong, network=network).ask(handle), "fleet")
    assert len(origin.asked("/unversioned")) == 1

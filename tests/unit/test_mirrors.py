"""Where a module may be had: which places, in which order, and what is told when none of them has it."""

from __future__ import annotations

import pytest

from hubclient.contract.errors import (
    AddressForbidden,
    HandleForbidden,
    HubError,
    UpstreamNotFound,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from hubd.config import Mirror
from hubd.failures import Hopeless
from hubd.network.mirrors import Health, Place, places, verdict

MIRROR = Mirror(match="https://tfhub.dev/", urls=("https://mirror.lan/tfhub/", "file:///srv/modules"))
A, B, OWN = places("https://tfhub.dev/google/nnlm/1", [MIRROR])


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def urls(handle: str, *mirrors: Mirror) -> list[str]:
    return [place.url for place in places(handle, mirrors)]


def test_mirrors_come_in_order_and_the_handles_own_origin_last() -> None:
    assert [place.url for place in (A, B, OWN)] == [
        "https://mirror.lan/tfhub/google/nnlm/1",
        "file:///srv/modules/google/nnlm/1",
        "https://tfhub.dev/google/nnlm/1",
    ]
    assert [place.is_directory for place in (A, B, OWN)] == [False, True, False]


def test_the_query_goes_along() -> None:
    assert urls("https://tfhub.dev/m/1?a=b%2Fc", MIRROR)[0] == "https://mirror.lan/tfhub/m/1?a=b%2Fc"


@pytest.mark.parametrize(
    "handle",
    ["https://tfhub.dev.evil.com/m/1", "http://tfhub.dev/m/1", "https://tfhub.dev:8443/m/1", "https://other.org/m/1"],
)
def test_another_host_scheme_or_port_has_no_mirror(handle: str) -> None:
    assert urls(handle, MIRROR) == [handle]


def test_a_prefix_ends_where_a_segment_does() -> None:
    google = Mirror(match="https://TFHub.dev/google", urls=("https://m.lan",))
    assert urls("https://tfhub.dev/google/m/1", google)[0] == "https://m.lan/m/1"
    for other in ("https://tfhub.dev/googlesque/m/1", "https://tfhub.dev/google", "https://tfhub.dev/google/"):
        assert urls(other, google) == [other]


@pytest.mark.parametrize("rest", ["..%2fsecret/1", "%2e%2e%2Fsecret/1", "a/..;x/1", "..%5csecret/1", "%2f%2fevil/1"])
def test_what_a_server_could_take_for_a_way_out_of_the_mirror_is_not_asked_there(rest: str) -> None:
    assert urls(f"https://tfhub.dev/{rest}", MIRROR) == [f"https://tfhub.dev/{rest}"]


def test_what_failed_goes_last_for_a_while_and_longer_each_time_in_a_row() -> None:
    clock = Clock()
    health = Health(clock)
    assert health.in_order([A, B, OWN]) == [A, B, OWN]
    health.failed(A.name)
    health.failed(A.name)  # of a second fetch that failed with the first
    assert health.in_order([A, B, OWN]) == [B, OWN, A]
    clock.now += 30
    assert health.in_order([A, B, OWN]) == [A, B, OWN]
    health.failed(A.name)
    clock.now += 59
    assert health.in_order([A, B, OWN]) == [B, OWN, A]
    health.failed(OWN.name)
    assert health.in_order([A, B, OWN]) == [B, A, OWN]
    for _ in range(20):
        clock.now += 600
        assert health.in_order([A, B, OWN]) == [A, B, OWN]
        health.failed(A.name)
    clock.now += 599
    assert health.in_order([A, B, OWN]) == [B, OWN, A]
    health.works(A)
    assert health.in_order([A, B, OWN]) == [A, B, OWN]
    health.failed(A.name)
    clock.now += 30
    assert health.in_order([A, B, OWN]) == [A, B, OWN], "once it worked, it begins anew"


def test_what_is_wrong_with_one_module_is_held_against_that_one_alone() -> None:
    health = Health(Clock())
    other = Place(A.name, A.name + "other/1", True)
    health.failed(A.url)
    assert health.in_order([A, B]) == [B, A]
    assert health.in_order([other, B]) == [other, B]


@pytest.mark.parametrize(
    ("failures", "told"),
    [
        ([(A, UpstreamNotFound("a")), (OWN, UpstreamNotFound("own"))], "own; a"),
        ([(A, UpstreamTimeout("a")), (OWN, UpstreamNotFound("own"))], "a; own"),
        ([(A, Hopeless("a")), (OWN, UpstreamNotFound("own"))], "own; a"),
        ([(A, UpstreamNotFound("a")), (OWN, UpstreamUnavailable("own"))], "own; a"),
        ([(A, UpstreamNotFound("a")), (OWN, HandleForbidden("own"))], "a; own"),
        ([(A, UpstreamNotFound("a")), (OWN, AddressForbidden("own"))], "a; own"),
        ([(OWN, HandleForbidden("own"))], "own"),
    ],
)
def test_the_error_is_the_one_to_act_on_and_names_all_that_was_tried(
    failures: list[tuple[Place, HubError]], told: str
) -> None:
    kinds = {error.detail: type(error) for _, error in failures}
    error = verdict(failures)
    assert (str(error), error.detail, type(error)) == (told, told, kinds[told.partition(";")[0]])

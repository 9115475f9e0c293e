"""The uncompressed format: an origin leads to a directory of an object store, and to nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest

from hubclient.contract.errors import HandleForbidden, HubError, UpstreamDenied, UpstreamNotFound, UpstreamUnavailable
from hubd.config import HostSettings
from hubd.network.conditions import Validators
from hubd.network.credentials import Credential
from hubd.network.formats import AnyFormat
from hubd.network.session import Session
from hubd.network.sources import ArchiveRequest, Delivery, HttpSource
from hubd.objects.urls import ObjectUrl
from tests.support.means import NETWORK
from tests.support.origin import Answer, Asked, Origin

STORED = "gs://bucket/google/nnlm/1"
UNCOMPRESSED = (HostSettings(name="127.0.0.1", format="uncompressed"),)


def leads_to(location: str, status: int = 303) -> Answer:
    return Answer(status=status, headers={"Location": location})


def by_format(compressed: Answer, uncompressed: Answer) -> Callable[[Asked], Answer]:
    def answer(asked: Asked) -> Answer:
        return uncompressed if "tf-hub-format=uncompressed" in asked.target else compressed

    return answer


class Stored(NamedTuple):
    url: str
    request: ArchiveRequest


async def opened(request: ArchiveRequest, hosts: tuple[HostSettings, ...] = ()) -> Stored | str:
    """What a store was asked for, or else the host that an archive came from."""
    asked_for: list[Stored] = []

    @asynccontextmanager
    async def open_directory(url: ObjectUrl, request: ArchiveRequest) -> AsyncIterator[Delivery]:
        asked_for.append(Stored(str(url), request))
        yield Delivery(None, None, Validators(), "")

    async with (
        Session(NETWORK) as session,
        AnyFormat(HttpSource(session), session, hosts, open_directory).open(request) as delivery,
    ):
        return asked_for[0] if asked_for else delivery.final_host


async def test_a_host_that_keeps_directories_is_asked_for_them_alone(origin: Origin) -> None:
    handle = origin.serve("/m/1", leads_to(f"{STORED}/"))
    found = await opened(ArchiveRequest(handle), UNCOMPRESSED)
    assert isinstance(found, Stored)
    assert found.url == STORED
    assert [asked.target for asked in origin.asked("/m/1")] == ["/m/1?tf-hub-format=uncompressed"]


@pytest.mark.parametrize("status", [406, 415])
async def test_a_host_that_refuses_archives_is_asked_once_for_a_directory(status: int, origin: Origin) -> None:
    handle = origin.serve("/m/1", by_format(Answer(status=status), leads_to(STORED)))
    found = await opened(ArchiveRequest(handle))
    assert isinstance(found, Stored)
    assert found.url == STORED
    formats = [asked.target.rpartition("=")[2] for asked in origin.asked("/m/1")]
    assert formats == ["compressed", "uncompressed"]


async def test_a_host_that_has_archives_is_asked_for_nothing_else(origin: Origin) -> None:
    handle = origin.serve("/m/1", Answer(b"archive"))
    assert await opened(ArchiveRequest(handle)) == "127.0.0.1"
    assert len(origin.asked("/m/1")) == 1


async def test_the_way_to_the_store_may_have_redirects(origin: Origin) -> None:
    origin.serve("/elsewhere", leads_to("s3://bucket/a%20path", 307))
    handle = origin.serve("/m/1", leads_to("/elsewhere", 301))
    found = await opened(ArchiveRequest(handle), UNCOMPRESSED)
    assert isinstance(found, Stored)
    assert found.url == "s3://bucket/a%20path"


async def test_the_store_sees_no_credential_of_the_caller_and_the_origin_no_condition(origin: Origin) -> None:
    handle = origin.serve("/m/1", leads_to(STORED))
    known = Validators('"of the directory"')
    request = ArchiveRequest(handle, known, credential=Credential("bearer", "secret"))
    found = await opened(request, UNCOMPRESSED)
    assert isinstance(found, Stored)
    assert found.request.credential is None
    assert found.request.known == known
    (asked,) = origin.asked("/m/1")
    assert asked.headers["Authorization"] == "Bearer secret"
    assert "If-None-Match" not in asked.headers


@pytest.mark.parametrize(
    ("answer", "expected", "detail"),
    [
        (Answer(b"an archive after all"), UpstreamUnavailable, "leads to no object store"),
        (leads_to("gs://"), UpstreamUnavailable, "no directory of an object store"),
        (leads_to("gs://bucket"), UpstreamUnavailable, "no directory of an object store"),
        (leads_to("gs://bucket/../secret"), UpstreamUnavailable, "no directory of an object store"),
        (leads_to("gs://bucket/path?endpoint=http://evil"), UpstreamUnavailable, "no directory of an object store"),
        (leads_to("gs://key:secret@bucket/path"), UpstreamUnavailable, "no directory of an object store"),
        (leads_to("file:///etc"), HandleForbidden, "neither https nor http"),
        (Answer(status=303), UpstreamUnavailable, "without a Location"),
        (Answer(status=406), UpstreamUnavailable, "406"),
        (Answer(status=404), UpstreamNotFound, "404"),
        (Answer(status=403), UpstreamDenied, "403"),
    ],
)
async def test_what_leads_to_no_directory_is_a_clear_error(
    answer: Answer, expected: type[HubError], detail: str, origin: Origin
) -> None:
    handle = origin.serve("/m/1", answer)
    with pytest.raises(expected, match=detail) as caught:
        await opened(ArchiveRequest(handle), UNCOMPRESSED)
    assert "secret" not in str(caught.value)
    assert "evil" not in str(caught.value)


async def test_a_store_in_answer_to_the_compressed_format_is_refused(origin: Origin) -> None:
    with pytest.raises(HandleForbidden, match="neither https nor http"):
        await opened(ArchiveRequest(origin.serve("/m/1", leads_to(STORED))))

"""What answers are worth: a part of an archive is never taken for all the rest of it, nor a drip for an answer."""

from __future__ import annotations

import pytest

from hubclient.contract.errors import UpstreamTimeout, UpstreamUnavailable
from hubd.network import kaggle
from hubd.network.session import Session
from hubd.network.sources import ArchiveRequest, Delivery, HttpSource
from tests.support.means import NETWORK
from tests.support.origin import Answer, Asked, Origin

BODY = bytes(range(256))


async def test_a_part_that_ends_before_the_archive_whose_size_was_not_told_is_no_end(origin: Origin) -> None:
    whole = Answer(BODY, chunked=True, etag='"v"')
    short = Answer(BODY[16:100], 206, {"Content-Range": "bytes 16-99/256"}, etag='"v"')
    rest = Answer(BODY[100:], 206, {"Content-Range": "bytes 100-255/256"}, etag='"v"')

    def answer(asked: Asked) -> Answer:
        return {None: whole, "bytes=16-": short, "bytes=100-": rest}[asked.headers.get("Range")]

    request = ArchiveRequest(origin.serve("/m/1", answer))
    received: list[bytes] = []

    async def read(delivery: Delivery, start: int) -> None:
        assert delivery.part is not None
        async with delivery.part(start, None) as part:
            async for piece in part:
                received.append(piece)

    async with Session(NETWORK) as session, HttpSource(session).open(request) as delivery:
        with pytest.raises(UpstreamUnavailable, match="sent a part of what was asked for"):
            await read(delivery, 16)
        await read(delivery, 100)
    assert b"".join(received) == BODY[16:]


async def test_a_latest_version_that_drips_ends_in_time(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kaggle, "_MAX_ANSWER_SECONDS", 0.2)
    origin.serve("/api/v1/models/google/bert/tensorFlow2/en/get", Answer(b'{"versionNumber": 3}', gate_after_bytes=1))
    async with Session(NETWORK) as session:
        source = HttpSource(session, origin.url(""))
        with pytest.raises(UpstreamTimeout, match="took too long"):
            await source.open(ArchiveRequest("kaggle:google/bert/tensorFlow2/en")).__aenter__()

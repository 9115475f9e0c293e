"""A caller's credential and the parts of an archive: each is asked for as the whole was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hubclient.contract.credentials import Credential
from hubd.config_stores import CredentialSettings
from hubd.network.credentials import MachineCredentials
from hubd.network.session import Session
from hubd.network.sources import ArchiveRequest, HttpSource
from tests.support.means import NETWORK
from tests.support.origin import Answer, Asked, Origin

BODY = bytes(range(256))
OWN = Credential("bearer", "kN7-tell_nobody")
WHOLE = Answer(BODY, etag='"v"', ranges=True)


@pytest.fixture
def elsewhere() -> Iterator[Origin]:
    with Origin() as running:
        yield running


def shown(origin: Origin, path: str) -> list[str | None]:
    return [asked.headers.get("Authorization") for asked in origin.asked(path)]


def to(url: str) -> Answer:
    return Answer(status=302, headers={"Location": url})


async def whole_and_part(handle: str) -> None:
    async with Session(NETWORK) as session, HttpSource(session).open(ArchiveRequest(handle, credential=OWN)) as whole:
        assert whole.part is not None
        async with whole.part(16, None) as part:
            assert b"".join([piece async for piece in part]) == BODY[16:]


async def test_parts_at_the_handles_own_host_are_asked_for_with_it(origin: Origin) -> None:
    handle = origin.serve("/m/1", to(origin.url("/files")))
    origin.serve("/files", WHOLE)
    await whole_and_part(handle)
    assert shown(origin, "/files") == [OWN.header(), OWN.header()]


async def test_parts_elsewhere_or_back_from_there_are_asked_for_without(origin: Origin, elsewhere: Origin) -> None:
    elsewhere.serve("/files", WHOLE)
    await whole_and_part(origin.serve("/m/1", to(elsewhere.url("/files"))))
    assert shown(elsewhere, "/files") == [None, None]
    elsewhere.serve("/away", to(origin.url("/back")))
    origin.serve("/back", WHOLE)
    await whole_and_part(origin.serve("/m/2", to(elsewhere.url("/away"))))
    assert shown(origin, "/back") == [None, None]


async def test_where_a_signed_url_has_expired_the_handle_is_asked_again_with_it(
    origin: Origin, elsewhere: Origin
) -> None:
    signed = ["/signed-1", "/signed-2"]
    handle = origin.serve("/m/1", lambda _: to(elsewhere.url(signed.pop(0))))

    def once(_: Asked) -> Answer:
        return WHOLE if len(elsewhere.asked("/signed-1")) == 1 else Answer(b"expired", 403)

    elsewhere.serve("/signed-1", once)
    elsewhere.serve("/signed-2", WHOLE)
    await whole_and_part(handle)
    assert shown(origin, "/m/1") == [OWN.header(), OWN.header()]
    assert shown(elsewhere, "/signed-1") + shown(elsewhere, "/signed-2") == [None] * 3


async def test_a_delivery_tells_whether_the_machines_credential_was_shown_on_its_way(
    origin: Origin, elsewhere: Origin, tmp_path: Path
) -> None:
    secret = tmp_path / "token"
    secret.write_text(OWN.value)
    secret.chmod(0o600)
    entry = CredentialSettings(host=f"127.0.0.1:{origin.port}", type="bearer", file=str(secret))
    elsewhere.serve("/files", WHOLE)
    ways = {origin.serve("/m/1", to(elsewhere.url("/files"))): True, elsewhere.url("/files"): False}
    async with Session(NETWORK, machine=MachineCredentials([entry])) as session:
        for handle, is_credentialed in ways.items():
            async with HttpSource(session).open(ArchiveRequest(handle)) as delivery:
                assert delivery.is_credentialed is is_credentialed
    own = Credential("bearer", "tell_nobody_either")
    request = ArchiveRequest(elsewhere.url("/files"), credential=own)
    async with Session(NETWORK) as session, HttpSource(session).open(request) as delivery:
        assert not delivery.is_credentialed, "a caller's is another matter"

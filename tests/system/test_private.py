"""What a user's own credential brought is that user's: nothing of it, not even its handle, reaches another one.

The daemon is ALICE's and serves everyone, as the service does; BOB and CAROL use it, and root administrates.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from hubclient.contract import handles
from hubclient.contract.lease import Lease
from hubd.store import acl
from tests.support import uids
from tests.support.archives import MODULE, archive
from tests.support.daemon import Daemon
from tests.support.origin import Answer, Asked, Origin
from tests.support.service import Service
from tests.support.uids import ALICE, BOB
from tests.support.waiting import wait_until

pytestmark = uids.needs_root

CAROL = 54303
ROOT = 0
ARCHIVE = archive()
OTHER = archive({**MODULE, "assets/other.txt": b"other"})


@contextmanager
def serving(network: str) -> Iterator[Service]:
    directory = Path(tempfile.mkdtemp(prefix="hubd-private-"))
    try:
        os.chown(directory, ALICE, ALICE)
        directory.chmod(0o755)
        with Service(directory, network) as service:
            yield service
    finally:
        shutil.rmtree(directory)


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with serving("") as running:
        yield running


def private(*tokens: str, body: bytes = ARCHIVE, etag: str | None = '"1"') -> Callable[[Asked], Answer]:
    """What a path answers that lets these tokens have the archive."""
    wanted = {f"Bearer {token}" for token in tokens}

    def answer(asked: Asked) -> Answer:
        return Answer(body, etag=etag) if asked.headers.get("Authorization") in wanted else Answer(b"sign in", 401)

    return answer


def unlike(name: str) -> bytes:
    """An archive of its own: equal content is one tree, whoever has it."""
    return archive({**MODULE, "assets/name.txt": name.encode()})


def got(answer: tuple[int, Any]) -> str:
    """The path of a module that was answered."""
    status, resolved = answer
    assert status == 200, resolved
    return str(resolved["path"])


def code(answer: tuple[int, Any]) -> str:
    return str(answer[1]["code"])


def may_read(uid: int, path: str) -> bool:
    def read() -> bool:
        try:
            Lease.share(os.path.dirname(path) + "/lease").release()
            return "saved_model.pb" in os.listdir(path)
        except PermissionError:
            return False

    return uids.as_user(uid, read)


def readers(path: str) -> set[int] | None:
    found = acl.readers_of(os.path.dirname(path))
    return set(found) if found is not None else None


def test_nothing_of_a_private_module_reaches_another_user(service: Service, origin: Origin) -> None:
    handle = origin.serve("/m/1", private("bobs", body=unlike("nothing")))
    status, resolved = service.resolve(BOB, handle, "bobs")
    path = got((status, resolved))
    assert got(service.resolve(BOB, handle)) == path  # without the credential: it is BOB who asks
    assert may_read(BOB, path)
    assert not may_read(CAROL, path)

    key, cache = handles.key(handle), service.cache
    guesses = {key, hashlib.sha256(f"{key} of uid {BOB}".encode()).hexdigest()}
    names = [cache / "handles" / name for guess in guesses for name in (guess, f"{guess}.json")]
    names.append(cache / "tfhub" / handles.spelling_name(handle))

    def seen() -> list[str]:
        found = [str(name) for name in names if os.path.lexists(name)]
        for directory in (*map(str, cache.iterdir()), os.path.dirname(path)):
            try:
                found += os.listdir(directory) if os.path.isdir(directory) else []
            except PermissionError:
                continue
        return found

    assert uids.as_user(CAROL, seen) == []
    told = [
        service.request(CAROL, "GET", "/v1/modules"),
        service.request(CAROL, "GET", f"/v1/modules/{key}"),
        service.request(CAROL, "GET", f"/v1/modules/{resolved['key']}"),
        service.request(CAROL, "GET", "/v1/fetches"),
        service.request(CAROL, "GET", "/v1/status"),
        service.request(CAROL, "POST", "/v1/uses", {"keys": [resolved["key"], *guesses]}),
        service.resolve(CAROL, handle),
        service.resolve(CAROL, handle, "guessed"),
        service.resolve(CAROL, handle, offline=True),
        service.resolve(CAROL, handle, digest=resolved["digest"]),
    ]
    text = json.dumps(told)
    assert not any(secret in text for secret in (handle, resolved["digest"], resolved["key"]))
    assert told[4][1]["cache"]["modules"] == told[4][1]["cache"]["size_bytes"] == 0
    assert told[5][1] == {"counted": 0}
    assert [code(answer) for answer in told[1:3]] == ["not-found"] * 2
    assert [code(answer) for answer in told[6:]] == ["upstream-denied", "upstream-denied", "offline", "upstream-denied"]

    for uid, number in ((BOB, 1), (ROOT, 1)):
        modules = service.request(uid, "GET", "/v1/modules?filter=handle~" + handle)[1]["modules"]
        assert [(module["handle"], module["reader"]) for module in modules] == [(handle, BOB)] * number
        assert service.request(uid, "GET", f"/v1/modules/{key}")[1]["path"] == path
    assert service.request(BOB, "GET", "/v1/status")[1]["cache"]["modules"] == 1


def test_a_second_user_proves_access_and_shares_the_tree_without_a_download(service: Service, origin: Origin) -> None:
    body = unlike("shared")
    handle = origin.serve("/m/1", private("bobs", "carols", body=body))
    path = got(service.resolve(BOB, handle, "bobs"))
    status, resolved = service.resolve(CAROL, handle, "carols")
    assert got((status, resolved)) == path
    assert resolved["outcome"] == "hit"
    assert origin.sent_bytes("/m/1") == len(body)
    assert may_read(CAROL, path)
    assert readers(path) == {BOB, CAROL}
    for uid in (BOB, CAROL):
        modules = service.request(uid, "GET", "/v1/modules?filter=handle~" + handle)[1]["modules"]
        assert [(module["reader"], module["shared_with"]) for module in modules] == [(uid, [])]


def test_a_page_to_sign_in_proves_nothing(service: Service, origin: Origin) -> None:
    def answer(asked: Asked) -> Answer:
        mine = asked.headers.get("Authorization") == "Bearer bobs"
        return Answer(unlike("page"), etag='"1"') if mine else Answer(b"<html>sign in</html>", etag='"2"')

    handle = origin.serve("/m/1", answer)
    path = got(service.resolve(BOB, handle, "bobs"))
    assert code(service.resolve(CAROL, handle, "carols")) == "archive-corrupt"
    assert readers(path) == {BOB}
    assert len(origin.asked("/m/1")) == 2  # as many as if nobody had it: to be slower would tell


@pytest.mark.parametrize("proof", ["of another version", "from elsewhere"])
def test_a_304_proves_nothing_if_it_is(service: Service, origin: Origin, proof: str) -> None:
    def carols(asked: Asked) -> Answer:
        if "If-None-Match" not in asked.headers:
            return Answer(OTHER, etag='"2"')
        return Answer(status=304, headers={"ETag": '"1"' if proof == "from elsewhere" else '"2"'})

    def answer(asked: Asked) -> Answer:
        if asked.headers.get("Authorization") == "Bearer bobs":
            return Answer(unlike(proof), etag='"1"')
        if proof == "from elsewhere":
            return Answer(status=302, headers={"Location": origin.url("/there")})
        return carols(asked)

    origin.serve("/there", carols)
    handle = origin.serve("/m/1", answer)
    bobs, hers = got(service.resolve(BOB, handle, "bobs")), got(service.resolve(CAROL, handle, "carols"))
    assert bobs != hers
    assert (readers(bobs), readers(hers)) == ({BOB}, {CAROL})


def test_users_whom_the_origin_gives_different_content_each_have_their_own(service: Service, origin: Origin) -> None:
    bodies = {"Bearer bobs": unlike("his"), "Bearer carols": unlike("hers")}
    handle = origin.serve(
        "/m/1", lambda asked: Answer(bodies[asked.headers["Authorization"]], etag=f'"{asked.headers["Authorization"]}"')
    )
    bobs, carols = (got(service.resolve(uid, handle, token)) for uid, token in ((BOB, "bobs"), (CAROL, "carols")))
    assert bobs != carols
    for uid, path, other in ((BOB, bobs, carols), (CAROL, carols, bobs)):
        assert got(service.resolve(uid, handle)) == path
        assert may_read(uid, path)
        assert not may_read(uid, other)


def test_a_denial_takes_the_grant_at_once_and_a_later_yes_brings_it_back(service: Service, origin: Origin) -> None:
    body = unlike("denied")
    handle = origin.serve("/m/1", private("bobs", body=body))
    path = got(service.resolve(BOB, handle, "bobs"))
    origin.serve("/m/1", private())
    assert code(service.resolve(BOB, handle, "bobs", refresh=True)) == "upstream-denied"
    assert not may_read(BOB, path)
    assert code(service.resolve(BOB, handle)) == "upstream-denied"
    assert service.request(BOB, "GET", "/v1/modules?filter=handle~" + handle)[1]["modules"] == []
    origin.serve("/m/1", private("new", body=body))
    assert got(service.resolve(BOB, handle, "new")) == path
    assert may_read(BOB, path)
    assert origin.sent_bytes("/m/1") < 2 * len(body)


def test_public_beats_private_for_as_long_as_a_public_record_is_there(service: Service, origin: Origin) -> None:
    body = unlike("both")
    handle = origin.serve("/m/1", private("bobs", body=body))
    path = got(service.resolve(BOB, handle, "bobs"))
    public = origin.serve("/public/1", Answer(body))
    assert got(service.resolve(CAROL, public)) == path
    assert may_read(CAROL, path)
    assert service.request(CAROL, "GET", f"/v1/modules/{handles.key(public)}")[1]["shared_with"] == []
    assert code(service.resolve(CAROL, handle)) == "upstream-denied"
    assert service.request(ROOT, "DELETE", f"/v1/modules/{handles.key(public)}")[1]["shared_with"] == [handle]
    assert not may_read(CAROL, path)
    assert may_read(BOB, path)


def test_a_handle_that_becomes_public_is_everyones(service: Service, origin: Origin) -> None:
    body = unlike("opened")
    handle = origin.serve("/m/1", private("bobs", body=body))
    path = got(service.resolve(BOB, handle, "bobs"))
    origin.serve("/m/1", Answer(body, etag='"1"'))
    assert got(service.resolve(CAROL, handle)) == path
    assert may_read(CAROL, path)
    assert os.path.islink(service.cache / "handles" / handles.key(handle))


def test_a_fetch_under_way_is_told_to_its_asker_alone(service: Service, origin: Origin) -> None:
    gated = Answer(unlike("gated"), gate_after_bytes=100)
    handle = origin.serve("/m/1", lambda asked: gated if "Authorization" in asked.headers else Answer(status=401))

    with ThreadPoolExecutor(1) as threads:
        fetching = threads.submit(service.resolve, BOB, handle, "bobs")
        try:
            origin.wait_until_asked("/m/1")
            bobs, carols = (service.request(uid, "GET", "/v1/fetches")[1]["fetches"] for uid in (BOB, CAROL))
            assert service.request(CAROL, "GET", "/v1/status")[1]["fetches"] == 0
            assert code(service.request(CAROL, "DELETE", f"/v1/fetches/{bobs[0]['id']}")) == "not-found"
        finally:
            gated.gate.set()
        got(fetching.result())
    assert [fetch["handle"] for fetch in bobs] == [handle]
    assert carols == []


def test_what_is_asked_for_as_anybody_is_told_to_others_once_it_is_a_module(service: Service, origin: Origin) -> None:
    page = Answer(b"sign in", gate_after_bytes=1)
    module = Answer(archive({**MODULE, "assets/random": Random(11).randbytes(1 << 20)}), gate_after_bytes=600_000)

    def seen_by_another(answer: Answer, path: str, progress: str) -> list[str]:
        handle = origin.serve(path, answer)
        with ThreadPoolExecutor(1) as threads:
            fetching = threads.submit(service.resolve, BOB, handle)
            try:
                origin.wait_until_asked(path)
                wait_until(lambda: bool(service.request(ROOT, "GET", "/v1/fetches")[1]["fetches"][0][progress]))
                return [fetch["handle"] for fetch in service.request(CAROL, "GET", "/v1/fetches")[1]["fetches"]]
            finally:
                answer.gate.set()
                fetching.result()

    assert seen_by_another(page, "/m/page", "received_bytes") == []
    assert seen_by_another(module, "/m/module", "unpacked_bytes") == [origin.url("/m/module")]


def test_who_proves_access_to_what_is_under_way_joins_it_and_nobody_else(service: Service, origin: Origin) -> None:
    body = unlike("joined")
    gated = Answer(body, etag='"1"', gate_after_bytes=100)

    def answer(asked: Asked) -> Answer:
        is_first = asked.headers.get("Authorization") == "Bearer bobs"
        return gated if is_first else private("carols", body=body)(asked)

    handle = origin.serve("/m/1", answer)
    with ThreadPoolExecutor(2) as threads:
        bobs = threads.submit(service.resolve, BOB, handle, "bobs")
        try:
            origin.wait_until_asked("/m/1")
            wait_until(lambda: bool(service.request(BOB, "GET", "/v1/fetches")[1]["fetches"][0]["received_bytes"]))
            assert code(service.resolve(CAROL, handle, "guessed")) == "upstream-denied"
            carols = threads.submit(service.resolve, CAROL, handle, "carols")
            wait_until(lambda: service.request(ROOT, "GET", "/v1/fetches")[1]["fetches"][0]["waiters"] == 2)
        finally:
            gated.gate.set()
        path = got(bobs.result())
        assert got(carols.result()) == path
    assert carols.result()[1]["outcome"] == "joined"
    assert readers(path) == {BOB, CAROL}
    assert origin.sent_bytes("/m/1") == len(body) + len(b"sign in")


def test_a_broken_off_download_goes_on_for_its_own_user_alone(service: Service, origin: Origin) -> None:
    body = archive({**MODULE, "assets/random": Random(9).randbytes(1 << 20)})
    cut = Answer(body, etag='"1"', ranges=True, cut_after_bytes=600_000)
    handle = origin.serve("/m/1", cut)
    assert code(service.resolve(BOB, handle, "bobs")) == "upstream-unavailable"
    origin.serve("/m/1", Answer(body, etag='"1"', ranges=True))
    path = got(service.resolve(CAROL, handle, "carols"))
    assert "Range" not in origin.asked("/m/1")[-1].headers
    service.request(ROOT, "DELETE", f"/v1/modules/{handles.key(handle)}?force=true")
    assert got(service.resolve(BOB, handle, "bobs")) == path
    assert origin.asked("/m/1")[-1].headers["Range"] == "bytes=600000-"
    assert readers(path) == {BOB}


def test_what_one_credential_was_answered_is_not_remembered_for_another(service: Service, origin: Origin) -> None:
    granted = private("right", body=unlike("remembered"))
    handle = origin.serve(
        "/m/1", lambda asked: granted(asked) if granted(asked).status == 200 else Answer(b"none", 404)
    )
    for _ in range(2):
        assert code(service.resolve(BOB, handle, "wrong")) == "upstream-not-found"
    assert len(origin.asked("/m/1")) == 1  # that one is
    got(service.resolve(BOB, handle, "right"))
    assert code(service.resolve(CAROL, handle)) == "upstream-not-found"
    assert [asked.headers.get("Authorization") for asked in origin.asked("/m/1")[1:]] == ["Bearer right", None]


def test_repair_pins_and_restarts_keep_a_tree_closed(service: Service, origin: Origin) -> None:
    handle = origin.serve("/m/1", private("bobs", "carols", body=unlike("kept")))
    path = got(service.resolve(BOB, handle, "bobs"))
    got(service.resolve(CAROL, handle, "carols"))
    key = handles.key(handle)
    assert service.request(ROOT, "PUT", f"/v1/modules/{key}/pin")[0] == 200
    assert readers(path) == {BOB, CAROL}
    os.unlink(f"{path}/saved_model.pb")
    assert got(service.resolve(BOB, handle, "bobs")) == path
    assert os.path.exists(f"{path}/saved_model.pb")
    assert readers(path) == {BOB, CAROL}
    service.stop()
    os.chmod(os.path.dirname(path), 0o755)
    os.removexattr(os.path.dirname(path), acl.ATTRIBUTE)
    service.start()
    wait_until(lambda: readers(path) == {BOB, CAROL})
    assert stat.S_IMODE(os.lstat(os.path.dirname(path)).st_mode) == 0o750
    assert got(service.resolve(BOB, handle)) == path


def test_an_administrator_removes_by_handle_what_is_private(service: Service, origin: Origin) -> None:
    handle = origin.serve("/m/1", private("bobs", body=unlike("removed")))
    path = got(service.resolve(BOB, handle, "bobs"))
    assert service.request(ROOT, "DELETE", f"/v1/modules/{handles.key(handle)}")[0] == 200
    assert not os.path.exists(path)


def test_a_grant_expires_and_is_renewed_by_asking_the_origin(origin: Origin) -> None:
    body = unlike("expired")
    handle = origin.serve("/m/1", private("bobs", body=body))
    with serving('revalidate_after = "1s"\n') as service:

        def is_denied() -> bool:
            return service.resolve(BOB, handle)[0] == 403

        path = got(service.resolve(BOB, handle, "bobs"))
        wait_until(is_denied)
        assert code(service.resolve(BOB, handle, offline=True)) == "offline"
        assert got(service.resolve(BOB, handle, "bobs")) == path
        assert origin.sent_bytes("/m/1") < 2 * len(body)  # it was a 304
        wait_until(is_denied)
        origin.serve("/m/1", Answer(status=500))
        assert code(service.resolve(BOB, handle, "bobs")) == "upstream-unavailable"  # an old copy is no grant


def test_a_users_own_daemon_closes_what_is_private_by_its_mode(daemon: Daemon, origin: Origin) -> None:
    handle = origin.serve("/m/1", private("mine", body=unlike("own")))
    path = got(daemon.resolve(handle, credential={"type": "bearer", "value": "mine"}))
    assert stat.S_IMODE(os.lstat(os.path.dirname(path)).st_mode) == 0o700
    assert got(daemon.resolve(handle)) == path

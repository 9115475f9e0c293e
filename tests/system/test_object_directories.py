"""Directories of object stores: one module of many objects, of one version, whatever happens meanwhile."""

from __future__ import annotations

import hashlib
import os
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.archives import MODULE
from tests.support.bucket import Bucket
from tests.support.daemon import Daemon
from tests.support.hubctl import hubctl
from tests.support.modules import change_silently
from tests.support.object_stores import AWS_KEYS, AZURE_KEY, AzureServer, S3Server, secret
from tests.support.origin import Answer, Asked, Origin
from tests.support.waiting import wait_until

HANDLE = "s3://bucket/models/m/1"
WEIGHTS = "variables/variables.data-00000-of-00001"
FILES = {
    **MODULE,
    WEIGHTS: random.Random(1).randbytes(3_000_000),
    "assets/ä b%20c.txt": b"name",
    "assets/" + "long" * 40: b"long name",
    "empty": b"",
    **{f"assets/{number:02}": b"%d" % number * 1000 for number in range(30)},
}


def digest_of(files: dict[str, bytes]) -> str:
    """Of the lines that sha256sum prints for the files, in the order of their paths."""
    lines = (f"{hashlib.sha256(files[path]).hexdigest()}  {path}\n".encode() for path in sorted(files, key=str.encode))
    return hashlib.sha256(b"".join(lines)).hexdigest()


def files_in(module: str) -> dict[str, bytes]:
    root = Path(module)
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def bucket(origin: Origin) -> Bucket:
    return Bucket(origin)


@pytest.fixture
def start(tmp_path: Path, bucket: Bucket) -> Iterator[Callable[..., Daemon]]:
    """Starts a daemon that knows where the bucket is."""
    running: list[Daemon] = []

    def begin(config: str = "") -> Daemon:
        daemon = Daemon(tmp_path, config=bucket.settings() + bucket.settings("gs") + config)
        running.append(daemon.__enter__())
        return daemon

    yield begin
    for daemon in running:
        daemon.__exit__(None, None, None)


def got(answer: tuple[int, Any], files: dict[str, bytes] = FILES) -> dict[str, Any]:
    status, told = answer
    assert status == 200, told
    assert told["digest"] == digest_of(files)
    assert files_in(told["path"]) == files
    found: dict[str, Any] = told
    return found


def test_a_directory_is_one_module_whose_digest_is_that_of_its_content(
    start: Callable[..., Daemon], bucket: Bucket
) -> None:
    bucket.put_all("models/m/1", FILES)
    bucket.put_all("models/m/10", {"saved_model.pb": b"another one"})
    for marker in ("", "assets/", "variables/", "nothing in it/"):
        bucket.put(f"models/m/1/{marker}", b"")
    daemon = start()
    answer = got(daemon.resolve(HANDLE))
    assert answer["outcome"] == "fetched"
    assert answer["size_bytes"] == sum(map(len, FILES.values()))
    detail = daemon.request("GET", f"/v1/modules/{answer['key']}")[1]
    assert detail["content_digest"] == answer["digest"]
    assert got(daemon.resolve(f"{HANDLE}/", digest=answer["digest"]))["outcome"] == "hit"
    assert bucket.asked("models/m/10/saved_model.pb") == []
    assert " host=127.0.0.1 " in daemon.log.read_text()


def test_real_stores_keep_directories_too(s3: S3Server, azure: AzureServer, tmp_path: Path) -> None:
    name = f"b{os.urandom(6).hex()}"
    s3.make(name)
    azure.make(name)
    for path, data in {**FILES, "assets/": b"", "nothing in it/": b""}.items():
        s3.put(name, f"m/1/{path}", data)
        azure.put(name, f"m/1/{path}", data)
    keys = secret(tmp_path, f"s3://{name}", "aws-keys", AWS_KEYS) + secret(
        tmp_path, "az://" + name, "azure-key", AZURE_KEY
    )
    with Daemon(tmp_path, config=s3.settings() + azure.settings() + keys) as daemon:
        for scheme in ("s3", "az"):
            handle = f"{scheme}://{name}/m/1"
            assert got(daemon.resolve(handle))["outcome"] == "fetched"
            assert got(daemon.resolve(handle, refresh=True))["outcome"] == "hit"
        assert len(list((daemon.cache / "trees").iterdir())) == 1, "equal content is there once"
    assert "X-Amz" not in daemon.log.read_text()


def test_what_has_not_changed_is_found_by_its_listing_alone(start: Callable[..., Daemon], bucket: Bucket) -> None:
    handle = "s3://bucket/models/m"
    bucket.put_all("models/m", FILES)
    daemon = start()
    got(daemon.resolve(handle))
    asked, listings = len(bucket.asked(f"models/m/{WEIGHTS}")), bucket.listings
    assert got(daemon.resolve(handle, refresh=True))["outcome"] == "hit"
    assert len(bucket.asked(f"models/m/{WEIGHTS}")) == asked
    assert bucket.listings > listings
    bucket.put("models/m/assets/00", b"changed")
    changed = {**FILES, "assets/00": b"changed"}
    assert got(daemon.resolve(handle, refresh=True), changed)["outcome"] == "fetched"


@pytest.mark.parametrize("how", ["changed", pytest.param("removed", marks=pytest.mark.thorough)])
def test_a_directory_that_changes_while_it_is_fetched_is_fetched_anew(
    how: str, start: Callable[..., Daemon], bucket: Bucket
) -> None:
    bucket.put_all("models/m/1", FILES)
    after = {**FILES, WEIGHTS: b"other weights"}
    if how == "removed":
        after = {name: data for name, data in FILES.items() if name != WEIGHTS}
    once = threading.Event()

    def change() -> None:
        """Between the listing and the first answer."""
        if not once.is_set():
            once.set()
            if how == "removed":
                bucket.remove(f"models/m/1/{WEIGHTS}")
            else:
                bucket.put(f"models/m/1/{WEIGHTS}", after[WEIGHTS])

    bucket.put(f"models/m/1/{WEIGHTS}", FILES[WEIGHTS], before=change)
    daemon = start("[network]\nretries = 2\n")
    got(daemon.resolve(HANDLE), after)
    assert len(list((daemon.cache / "trees").iterdir())) == 1


def test_a_directory_that_never_rests_is_a_clear_error(start: Callable[..., Daemon], bucket: Bucket) -> None:
    bucket.put_all("models/m/1", MODULE)
    versions = iter(range(1000))
    path = "models/m/1/saved_model.pb"

    def change() -> None:
        bucket.put(path, b"version %d" % next(versions), before=change)

    change()
    told = start().resolve(HANDLE)[1]
    assert told["code"] == "upstream-unavailable"
    assert "has changed" in told["detail"]


def test_a_killed_daemon_goes_on_where_it_was(start: Callable[..., Daemon], bucket: Bucket, origin: Origin) -> None:
    bucket.put_all("models/m/1", FILES)
    target = bucket.target(f"models/m/1/{WEIGHTS}")
    bucket.put(f"models/m/1/{WEIGHTS}", FILES[WEIGHTS], gate_after_bytes=2_000_000)
    daemon = start()
    with daemon.events(HANDLE) as events:
        for event in events:
            if event["event"] == "progress" and event["fetch"]["received_bytes"] >= 2_000_000:
                break
        wait_until(lambda: len(list((daemon.cache / "staging").glob("*/transfer.json"))) == 1)
        daemon.kill()
    daemon.start()
    bucket.put(f"models/m/1/{WEIGHTS}", FILES[WEIGHTS])
    before = origin.sent_bytes(target)
    got(daemon.resolve(HANDLE))
    assert daemon.request("GET", "/v1/status")[1]["counters"]["resumed"] == 1
    assert origin.sent_bytes(target) - before <= 1_100_000
    assert not list((daemon.cache / "staging").iterdir())


def test_of_a_directory_that_changed_after_a_kill_nothing_is_gone_on_with(
    start: Callable[..., Daemon], bucket: Bucket
) -> None:
    bucket.put_all("models/m/1", FILES)
    bucket.put(f"models/m/1/{WEIGHTS}", FILES[WEIGHTS], gate_after_bytes=2_000_000)
    daemon = start()
    with daemon.events(HANDLE) as events:
        for event in events:
            if event["event"] == "progress" and event["fetch"]["received_bytes"] >= 2_000_000:
                break
        wait_until(lambda: len(list((daemon.cache / "staging").glob("*/transfer.json"))) == 1)
        daemon.kill()
    daemon.start()
    bucket.put(f"models/m/1/{WEIGHTS}", FILES[WEIGHTS][::-1])
    got(daemon.resolve(HANDLE), {**FILES, WEIGHTS: FILES[WEIGHTS][::-1]})
    assert daemon.request("GET", "/v1/status")[1]["counters"]["resumed"] == 0


NO_MODULES = [
    ({"10/saved_model.pb": b"x"}, "upstream-not-found", "no directory s3://bucket/models/m/1"),
    ({"1/README": b"x"}, "not-a-module", "saved_model.pb"),
    ({"1/saved_model.pb": b"x", "1/../../secret": b"x"}, "archive-unsafe", "segment"),
    ({"1/saved_model.pb": b"x", "1/a//b": b"x"}, "archive-unsafe", "segment"),
    ({"1/saved_model.pb": b"x", "1/a\\b": b"x"}, "archive-unsafe", "backslash"),
    ({"1/saved_model.pb": b"x", "1/saved_model.pb/x": b"x"}, "archive-unsafe", "both as a file"),
    ({f"1/{number}": b"x" for number in range(42)}, "archive-too-large", "limit of 40 files"),
    ({"1/saved_model.pb": b"\xff" * 50}, "not-a-module", "damaged"),
]


def test_what_is_no_module_is_a_clear_error_and_nothing_is_published(
    start: Callable[..., Daemon], bucket: Bucket
) -> None:
    daemon = start('[limits]\nfiles = 40\n[network]\nnegative_ttl = "0s"\n')
    for objects, code, detail in NO_MODULES:
        for path, data in objects.items():
            bucket.put(f"models/m/{path}", data)
        told = daemon.resolve(HANDLE)[1]
        assert told["code"] == code, told
        assert detail in told["detail"]
        assert list((daemon.cache / "trees").iterdir()) == []
        for path in objects:
            bucket.remove(f"models/m/{path}")


def test_verifying_repair_and_a_lock_file_go_by_the_digest_of_the_content(
    start: Callable[..., Daemon], bucket: Bucket, tmp_path: Path
) -> None:
    bucket.put_all("models/m/1", FILES)
    daemon, lock = start(), tmp_path / "hub.lock"
    done = hubctl(daemon, "lock", HANDLE, "-o", str(lock))
    assert done.returncode == 0, done.stderr
    assert f'digest = "sha256:{digest_of(FILES)}"' in lock.read_text()
    path = got(daemon.resolve(HANDLE))["path"]
    change_silently(Path(path) / WEIGHTS)
    events = daemon.lines("POST", "/v1/verify", {"repair": True})
    assert (events[-1]["damaged"], events[-1]["repaired"]) == (1, 1)
    assert got(daemon.resolve(HANDLE))["path"] == path
    done = hubctl(daemon, "rm", HANDLE)
    assert done.returncode == 0, done.stderr
    done = hubctl(daemon, "sync", "--lock", str(lock))
    assert done.returncode == 0, done.stderr
    assert got(daemon.resolve(HANDLE))["outcome"] == "hit"
    assert hubctl(daemon, "rm", HANDLE).returncode == 0
    bucket.put("models/m/1/assets/00", b"changed")
    done = hubctl(daemon, "sync", "--lock", str(lock))
    assert done.returncode != 0
    assert "digest-mismatch" in done.stderr + done.stdout


def leads_to_the_bucket(asked: Asked) -> Answer:
    if "tf-hub-format=uncompressed" in asked.target:
        return Answer(status=303, headers={"Location": "gs://bucket/models/m/1"})
    return Answer(status=406)


def test_an_origin_may_lead_to_a_directory(start: Callable[..., Daemon], bucket: Bucket, origin: Origin) -> None:
    bucket.put_all("models/m/1", FILES)
    handle = origin.serve("/google/m/1", leads_to_the_bucket)
    daemon = start()
    assert got(daemon.resolve(handle))["handle"] == handle
    assert len(origin.asked("/google/m/1")) == 2, "it refused to send an archive"
    assert got(daemon.resolve(handle, refresh=True))["outcome"] == "hit"
    assert len(bucket.asked("models/m/1/saved_model.pb")) == 1


def test_a_callers_credential_is_for_the_origin_and_not_for_the_bucket(
    start: Callable[..., Daemon], bucket: Bucket, origin: Origin
) -> None:
    bucket.put_all("models/m/1", FILES)
    mine = {"type": "bearer", "value": "tell-nobody"}

    def answer(asked: Asked) -> Answer:
        return leads_to_the_bucket(asked) if "Authorization" in asked.headers else Answer(status=401)

    handle = origin.serve("/private/m/1", answer)
    daemon = start('[[host]]\nname = "127.0.0.1"\nformat = "uncompressed"\n')
    assert daemon.resolve(handle)[1]["code"] == "upstream-denied"
    assert got(daemon.resolve(handle, credential=mine))["outcome"] == "fetched"
    assert got(daemon.resolve(handle, credential=mine, refresh=True))["outcome"] == "hit"
    assert {asked.headers["Authorization"] for asked in origin.asked("/private/m/1")[1:]} == {"Bearer tell-nobody"}
    shown = [asked.headers for name in FILES for asked in bucket.asked(f"models/m/1/{name}")]
    assert len(shown) >= len(FILES) - 1
    assert all("Authorization" not in headers for headers in shown)


def test_where_an_origin_leads_what_is_the_users_own_is_not_shown(
    tmp_path: Path, bucket: Bucket, origin: Origin
) -> None:
    for version in ("1", "2"):
        bucket.put_all(f"models/m/{version}", FILES)
    handle = origin.serve("/google/m/1", Answer(status=303, headers={"Location": "s3://bucket/models/m/1"}))
    said = '[[host]]\nname = "127.0.0.1"\nformat = "uncompressed"\n'
    keys = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "tell-nobody"}
    with Daemon(tmp_path, config=bucket.settings() + said, environ=keys) as daemon:
        got(daemon.resolve(handle))
        got(daemon.resolve("s3://bucket/models/m/2"))
    anonymous, own = (bucket.asked(f"models/m/{version}/saved_model.pb") for version in ("1", "2"))
    assert ["X-Amz-Signature" in asked.target for asked in (*anonymous, *own)] == [False, True]


def test_an_origin_that_leads_to_a_bucket_in_answer_to_the_other_format_is_refused(
    start: Callable[..., Daemon], bucket: Bucket, origin: Origin
) -> None:
    bucket.put_all("models/m/1", FILES)
    handle = origin.serve("/google/m/1", Answer(status=303, headers={"Location": "gs://bucket/models/m/1"}))
    assert start().resolve(handle)[1]["code"] == "handle-forbidden"
    assert bucket.listings == 0

"""`hubd host`: a real one, asked over TCP by programs that know nothing of it.

tensorflow_hub, the first of them, fetches from it in `tests/tensorflow/test_same_as_tensorflow_hub.py`.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hubclient.packing import pack
from hubd.publishing.scanning import tree_stamp
from tests.support.archives import MODULE, archive
from tests.support.daemon import Daemon
from tests.support.host import COMPRESSED, Host
from tests.support.library import put, put_archive
from tests.support.waiting import wait_until

ODD = "größe/sp ace/<b>#?%/1"
ODD_PATH = "/gr%C3%B6%C3%9Fe/sp%20ace/%3Cb%3E%23%3F%25/1"


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """One for all tests that leave it as it was."""
    with Host(tmp_path_factory.mktemp("host")) as running:
        put(running.library, "lab/m/1", README__md=b"# The first")
        put(running.library, "lab/m/2", README__md=b"# The second")
        put(running.library, "lab/m/.3.part")
        put(running.library, ODD)
        put(running.library, "lab/bad/1", {"saved_model.pb": b"\xff"})
        put_archive(running.library, "lab/packed/7")
        for name in ("lab/m/1", "lab/m/2", ODD, "lab/packed/7", "lab/bad/1"):
            running.await_version(name)
        yield running


def test_the_archive_is_the_one_that_the_publisher_would_pack(host: Host, tmp_path: Path) -> None:
    packed = pack(host.library / "lab/m/2", tmp_path / "m.tar.gz")
    answer = host.get(f"/lab/m/2{COMPRESSED}")
    digest = hashlib.sha256(answer.body).digest()
    assert (answer.status, f"sha256:{digest.hex()}", len(answer.body)) == (200, packed.digest, packed.size_bytes)
    headers = {name: answer.headers[name] for name in ("ETag", "Repr-Digest", "Content-Length", "Content-Type")}
    assert headers == {
        "ETag": f'"sha256-{digest.hex()}"',
        "Repr-Digest": f"sha-256=:{base64.b64encode(digest).decode()}:",
        "Content-Length": str(packed.size_bytes),
        "Content-Type": "application/gzip",
    }
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    with tarfile.open(fileobj=io.BytesIO(answer.body)) as tar:
        assert {member.name for member in tar} >= {f"./{name}" for name in MODULE}


def test_an_archive_that_was_put_there_is_served_as_it_is(host: Host) -> None:
    assert host.get(f"/lab/packed/7{COMPRESSED}").body == archive()


def test_head_parts_and_conditions(host: Host) -> None:
    whole = host.get(f"/lab/m/1{COMPRESSED}")
    etag, size_bytes = whole.headers["ETag"], len(whole.body)
    head = host.get(f"/lab/m/1{COMPRESSED}", {"Range": "bytes=0-1"}, method="HEAD")
    assert (head.status, head.body, head.headers["ETag"]) == (200, b"", etag)
    assert head.headers["Content-Length"] == str(size_bytes)
    part = host.get(f"/lab/m/1{COMPRESSED}", {"Range": "bytes=5-9", "If-Range": etag})
    assert (part.status, part.body) == (206, whole.body[5:10])
    assert part.headers["Content-Range"] == f"bytes 5-9/{size_bytes}"
    same = host.get(f"/lab/m/1{COMPRESSED}", {"If-None-Match": etag})
    assert (same.status, same.body, same.headers["ETag"]) == (304, b"", etag)
    beyond = host.get(f"/lab/m/1{COMPRESSED}", {"Range": "bytes=99999999-"})
    assert (beyond.status, beyond.body, beyond.headers["Content-Range"]) == (416, b"", f"bytes */{size_bytes}")


def test_without_a_version_the_newest_is_meant(host: Host) -> None:
    answer = host.get(f"/lab/m{COMPRESSED}&other=1")
    assert (answer.status, answer.headers["Location"]) == (302, "/lab/m/2?tf-hub-format=compressed&other=1")
    assert answer.headers["Cache-Control"] == "public, max-age=60"
    assert b"The second" in host.get("/lab/m").body


@pytest.mark.parametrize("formats", ["compressed", "uncompressed,compressed", "new,%20compressed"])
def test_one_known_format_among_others_is_enough(formats: str, host: Host) -> None:
    assert host.get(f"/lab/m/1?tf-hub-format={formats}").status == 200


@pytest.mark.parametrize("formats", ["uncompressed", "", "COMPRESSED"])
def test_unknown_formats_alone_are_refused_with_the_names_of_the_known(formats: str, host: Host) -> None:
    answer = host.get(f"/lab/m/1?tf-hub-format={formats}")
    assert answer.status == 406
    assert "compressed" in json.loads(answer.body)["detail"]


@pytest.mark.parametrize(
    "path",
    [
        "/lab/m/3",
        "/lab/m/.3.part",
        "/lab/m/01",
        "/lab/m/1/saved_model.pb",
        "/lab",
        "/nobody/m/1",
        "/../lab/m/1",
        "/lab/../lab/m/1",
        "/lab/%2e%2e/lab/m/1",
        "/lab/m%2F1",
        "//lab/m/1",
        "/lab//m/1",
        "/lab/m/1%00",
        "/lab/m/%FF",
        "/lab/m/1;x",
        "//evil.example/",
        "/api",
        "/-/static/x",
    ],
)
@pytest.mark.parametrize("query", ["", COMPRESSED])
def test_whatever_else_a_path_is_there_is_nothing_there(path: str, query: str, host: Host) -> None:
    answer = host.get(path + query)
    assert (answer.status, answer.headers["Location"]) == (404, None)


def test_odd_names_are_served_by_their_quoted_urls(host: Host) -> None:
    assert host.get(ODD_PATH + COMPRESSED).status == 200
    assert host.get(ODD_PATH).status == 200
    redirect = host.get(ODD_PATH.removesuffix("/1") + COMPRESSED)
    assert (redirect.status, redirect.headers["Location"]) == (302, ODD_PATH + COMPRESSED)
    slash = host.get(ODD_PATH + "/?x=1")
    assert (slash.status, slash.headers["Location"]) == (301, ODD_PATH + "?x=1")


def test_a_damaged_module_is_told_and_the_rest_is_served(host: Host) -> None:
    answer = host.get(f"/lab/bad/1{COMPRESSED}")
    problem = json.loads(answer.body)
    assert (answer.status, problem["code"]) == (422, "not-a-module")
    assert problem["detail"].startswith("lab/bad/1: its saved_model.pb is damaged"), "and where it lies is not told"
    assert host.get("/lab/bad").status == 404
    assert "lab/bad/1 is not served" in host.log.read_text()
    assert b"lab/bad" not in host.get("/").body


def test_errors_are_pages_for_browsers_and_problems_for_programs(host: Host) -> None:
    page = host.get("/nowhere", {"Accept": "text/html,*/*"})
    problem = host.get("/nowhere")
    assert (page.status, page.headers.get_content_type()) == (404, "text/html")
    assert (problem.status, problem.headers.get_content_type()) == (404, "application/problem+json")
    assert page.headers["Vary"] == problem.headers["Vary"] == "Accept"


def test_nothing_but_get_and_head_is_taken(host: Host) -> None:
    answer = host.get("/lab/m/1", method="DELETE")
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


def test_pages_and_the_listing_are_about_the_same_modules(host: Host) -> None:
    assert b"The second" in host.get("/").body
    models = json.loads(host.get("/api/models?q=second").body)["models"]
    assert [(model["name"], model["versions"]) for model in models] == [("lab/m", [2, 1])]
    assert models[0]["url"] == f"{host.url}/lab/m/2"
    assert host.get("/api/models?limit=x").status == 400


def test_each_request_has_a_line_in_the_log(host: Host) -> None:
    host.get("/lab/m/2?unique=1")
    line = "GET /lab/m/2?unique=1 peer=127.0.0.1 status=200"
    wait_until(lambda: line in host.log.read_text())


@pytest.mark.parametrize("refresh", [False, True])
def test_hubd_fetches_from_it(refresh: bool, host: Host, shared_daemon: Daemon) -> None:
    for handle in (f"{host.url}/lab/m/1", f"{host.url}/lab/m", host.url + ODD_PATH):
        status, answer = shared_daemon.resolve(handle, refresh=refresh)
        assert status == 200, answer
        assert Path(answer["path"], "saved_model.pb").read_bytes() == MODULE["saved_model.pb"]


def test_curl_and_aria2_download_from_it(host: Host, tmp_path: Path) -> None:
    expected = host.get(f"/lab/m/2{COMPRESSED}").body
    commands = [["curl", "-sfL", "-o", "curl", f"{host.url}/lab/m{COMPRESSED}"]]
    if shutil.which("aria2c") is not None:
        url = f"{host.url}/lab/m{COMPRESSED}"
        commands.append(["aria2c", "-q", "-x4", "-s4", "-k1M", "--no-conf", "-o", "aria2c", url])
    for command in commands:
        subprocess.run(command, cwd=tmp_path, check=True, timeout=30)
        assert (tmp_path / command[0]).read_bytes() == expected


def test_new_versions_appear_and_old_ones_go_while_it_serves(tmp_path: Path) -> None:
    with Host(tmp_path) as host:
        assert host.get("/lab/m").status == 404
        put(host.library, "lab/m/1")
        wait_until(lambda: host.get(f"/lab/m{COMPRESSED}").headers["Location"] == f"/lab/m/1{COMPRESSED}")
        put(host.library, "lab/m/10")
        wait_until(lambda: host.get(f"/lab/m{COMPRESSED}").headers["Location"] == f"/lab/m/10{COMPRESSED}")
        shutil.rmtree(host.library / "lab/m/1")
        wait_until(lambda: host.get(f"/lab/m/1{COMPRESSED}").status == 404)


def test_a_version_is_packed_once_for_all_and_for_good(tmp_path: Path) -> None:
    data = {**MODULE, "assets/big": os.urandom(20_000_000)}
    host = Host(tmp_path)
    put(host.library, "lab/m/1", data)
    with host:
        host.await_version("lab/m/1")
        answers: list[tuple[int, str]] = []

        def ask() -> None:
            answer = host.get(f"/lab/m/1{COMPRESSED}")
            answers.append((answer.status, hashlib.sha256(answer.body).hexdigest()))

        with host.asked(f"/lab/m/1{COMPRESSED}", method="HEAD"):
            pass  # who leaves changes nothing
        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(answers)) == 1
        assert answers[0][0] == 200
        assert host.log.read_text().count("is packed") == 1
        assert host.stop() == 0
    (packed,) = host.cache.glob("archives/*")
    with host:
        assert host.get(f"/lab/m/1{COMPRESSED}").status == 200
        assert host.log.read_text().count("is packed") == 1
        os.unlink(packed)
        assert host.get(f"/lab/m/1{COMPRESSED}").status == 200, "what somebody removed is packed anew"
        assert host.log.read_text().count("is packed") == 2


def test_a_client_that_leaves_in_mid_archive_changes_nothing(tmp_path: Path) -> None:
    host = Host(tmp_path)
    put_archive(host.library, "lab/m/1", archive({**MODULE, "big": os.urandom(16_000_000)}))
    with host:
        host.await_version("lab/m/1")
        whole = host.get(f"/lab/m/1{COMPRESSED}").body
        for _ in range(3):
            with host.asked(f"/lab/m/1{COMPRESSED}") as answer:
                answer.read(100_000)
        wait_until(lambda: host.log.read_text().count("status=left") == 3)
        assert host.get(f"/lab/m/1{COMPRESSED}").body == whole
        assert "Traceback" not in host.log.read_text()


_SMALL_DISK = 'mount -t tmpfs -o size=3m none "$1"; shift; exec "$@"'


def test_a_full_disk_while_packing_is_told_and_the_rest_is_served(tmp_path: Path) -> None:
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*unshare, "true"], check=False).returncode != 0:
        pytest.skip("no user namespace can be made here, in which to mount something")
    small = tmp_path / "small"
    small.mkdir()
    wrapper = [*unshare, "sh", "-c", _SMALL_DISK, "-", str(small)]
    host = Host(tmp_path, "--cache-dir", str(small / "archives"), wrapper=wrapper)
    put(host.library, "lab/small/1")
    put(host.library, "lab/big/1", {**MODULE, "big": os.urandom(5_000_000)})
    with host:
        host.await_version("lab/big/1")
        answer = host.get(f"/lab/big/1{COMPRESSED}")
        assert (answer.status, json.loads(answer.body)["code"]) == (507, "disk-full")
        assert str(small) not in answer.body.decode(), "where archives are kept is nobody's business"
        assert "lab/big/1 cannot be packed" in host.log.read_text()
        assert host.get(f"/lab/small/1{COMPRESSED}").status == 200
        assert host.get("/lab/big/1").status == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_ends_what_is_packed_and_leaves_nothing_half(number: signal.Signals, tmp_path: Path) -> None:
    host = Host(tmp_path)
    put(host.library, "lab/m/1", {**MODULE, "big": os.urandom(80_000_000)})
    with host:
        wait_until(lambda: bool(host.children()))
        (child,) = host.children()
        assert host.stop(number) == 0
        assert not os.path.exists(f"/proc/{child}")
    assert list(host.cache.rglob("*.*")) == []


def test_a_download_under_way_is_finished_before_it_stops(tmp_path: Path) -> None:
    host = Host(tmp_path)
    put_archive(host.library, "lab/m/1", data := archive({**MODULE, "big": os.urandom(16_000_000)}))
    with host:
        host.await_version("lab/m/1")
        with host.asked(f"/lab/m/1{COMPRESSED}") as answer:
            first = answer.read(100_000)
            os.kill(host.pid, signal.SIGTERM)
            wait_until(lambda: "stopping" in host.log.read_text())
            assert first + answer.read() == data
        assert host.wait() == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["/nowhere"], "/nowhere is no directory"),
        ([".", "--listen", "example.org"], "must be an address and a port"),
        ([".", "--cache-dir", "./inside"], "lies in the library itself"),
        ([".", "--base-url", "ftp://x"], "--base-url is where clients reach this host"),
        ([".", "--listen", "{taken}"], "cannot listen there"),
    ],
)
def test_what_cannot_be_hosted_is_told(arguments: list[str], told: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        named = [argument.format(taken=address) for argument in arguments]
        command = [sys.executable, "-P", "-m", "hubd", "host", *named]
        environ = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
        (library := tmp_path / "library").mkdir()
        done = subprocess.run(
            command, cwd=library, env=environ, capture_output=True, text=True, timeout=30, check=False
        )
    if "taken" in arguments[-1]:
        assert address in done.stderr
    assert done.returncode == 1
    assert told in done.stderr


def test_an_address_for_others_is_warned_of(tmp_path: Path) -> None:
    host = Host(tmp_path, "--listen", "0.0.0.0:{}")
    host._command = [argument.format(host.port) for argument in host._command]
    with host:
        wait_until(lambda: "is open to whoever reaches it" in host.log.read_text())


def test_behind_a_proxy_urls_are_the_base_url_s(tmp_path: Path) -> None:
    host = Host(tmp_path, "--base-url", "https://models.example.org/hub/")
    put(host.library, "lab/m/1")
    with host:
        host.await_version("lab/m/1")
        assert host.get(f"/lab/m{COMPRESSED}").headers["Location"] == f"/hub/lab/m/1{COMPRESSED}"
        assert b"https://models.example.org/hub/lab/m/1" in host.get("/lab/m/1").body


def test_gzip_bytes_are_not_packed_twice(host: Host) -> None:
    answer = host.get(f"/lab/m/1{COMPRESSED}", {"Accept-Encoding": "gzip"})
    assert answer.headers["Content-Encoding"] is None
    assert gzip.decompress(answer.body)[257:262] == b"ustar"


def test_an_archive_of_4_gb_takes_no_memory(tmp_path: Path) -> None:
    host, size_bytes = Host(tmp_path), 4_000_000_000
    stamp, _ = tree_stamp(str(put(host.library, "lab/m/1")))
    # As if it had been packed: a file without a block on the disk.
    for directory in ("archives", "versions"):
        (host.cache / directory).mkdir(parents=True)
    digest = "d" * 64
    os.symlink(digest, host.cache / "versions" / stamp)
    with (host.cache / "archives" / f"{digest}.tar.gz").open("wb") as file:
        file.truncate(size_bytes)
    with host:
        host.await_version("lab/m/1")
        host.get(f"/lab/m/1{COMPRESSED}", {"Range": "bytes=0-1000000"})
        before = host.peak_memory_bytes()
        url = f"{host.url}/lab/m/1{COMPRESSED}"
        curl = ["curl", "-sf", "-o", "/dev/null", "-w", "%{size_download}", "-r", "3000000000-", url]
        assert subprocess.run(curl, capture_output=True, text=True, timeout=60, check=True).stdout == "1000000000"
        assert host.get(f"/lab/m/1{COMPRESSED}", {"Range": "bytes=-5"}).headers["Content-Range"] == (
            f"bytes {size_bytes - 5}-{size_bytes - 1}/{size_bytes}"
        )
        assert host.peak_memory_bytes() - before < 4_000_000

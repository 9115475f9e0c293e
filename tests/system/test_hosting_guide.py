"""What docs/hosting.md tells people to copy: hubd fetches through its servers of nginx, and systemd takes its unit."""

from __future__ import annotations

import http.client
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hubclient.publishing import Published, publish
from tests.support import nginx
from tests.support.certificates import Authority
from tests.support.daemon import Daemon
from tests.support.host import COMPRESSED, Host
from tests.support.hubctl_calls import BLOCK
from tests.unit.test_client_publishing import README, model, write

needs_nginx = pytest.mark.skipif(nginx.PROGRAM is None, reason="nginx is not installed")
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing")

DOCUMENT = (Path(__file__).parents[2] / "docs/hosting.md").read_text()
BEHIND, ALONE = nginx.servers(DOCUMENT)
FOR_GOOD = "public, max-age=31536000, immutable"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    (tmp_path / "library").mkdir()
    return tmp_path / "library"


@pytest.fixture
def published(models: Path, tmp_path: Path) -> Published:
    module = write(tmp_path / "encoder", {"saved_model.pb": model(), "README.md": README, "assets/a": "a" * 100_000})
    return publish(module, "acme/encoder/1", models)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def daemon(authority: Authority, tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(tmp_path, config=f'[network]\nca_bundle = "{authority.bundle}"\n') as daemon:
        yield daemon


class Site:
    """An HTTPS server on loopback, as any client sees it."""

    def __init__(self, port: int, bundle: Path) -> None:
        self._port = port
        self._context = ssl.create_default_context(cafile=bundle)

    def url(self, path: str) -> str:
        return f"https://localhost:{self._port}{path}"

    def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = http.client.HTTPSConnection("localhost", self._port, context=self._context, timeout=20)
        try:
            connection.request(method, path, headers={name.replace("_", "-"): text for name, text in headers.items()})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()


@pytest.fixture
def places(authority: Authority, tmp_path: Path) -> dict[str, str]:
    certificate, key = authority.files(tmp_path, "localhost")
    return {"ssl_certificate": str(certificate), "ssl_certificate_key": str(key)}


@needs_nginx
def test_nginx_alone_serves_what_was_published(
    published: Published, models: Path, daemon: Daemon, authority: Authority, places: dict[str, str], tmp_path: Path
) -> None:
    archive = Path(published.path).read_bytes()
    with nginx.nginx(tmp_path / "nginx", ALONE, root=str(models), **places) as port:
        site = Site(port, authority.bundle)
        status, answer = daemon.resolve(site.url("/acme/encoder/1"))
        assert (status, f"sha256:{answer['digest']}") == (200, published.digest)
        check_archive(site, archive)
        (models / "acme" / "encoder" / "2.tar.gz").symlink_to("/etc/passwd")
        for path in ("/", "/acme/encoder", "/acme/encoder/2", "/acme/encoder/1.tar.gz", "/.hidden/m/1", "/a/../b/1"):
            assert site.get(path)[0] in (403, 404)


@needs_nginx
def test_behind_nginx_the_host_answers_as_it_does_alone(
    published: Published, daemon: Daemon, authority: Authority, places: dict[str, str], tmp_path: Path
) -> None:
    archive = Path(published.path).read_bytes()
    host = Host(tmp_path, "--base-url", "https://models.example.org")
    with (
        host,
        nginx.nginx(tmp_path / "nginx", BEHIND, proxy_pass=host.url, **places) as port,
    ):
        host.await_version("acme/encoder/1")
        site = Site(port, authority.bundle)
        status, answer = daemon.resolve(site.url("/acme/encoder/1"))
        assert (status, f"sha256:{answer['digest']}") == (200, published.digest)
        check_archive(site, archive)
        direct, through = host.get(f"/acme/encoder/1{COMPRESSED}"), site.get(f"/acme/encoder/1{COMPRESSED}")
        for name in ("ETag", "Repr-Digest", "Last-Modified", "Content-Length"):
            assert through[1][name] == direct.headers[name] is not None
        status, headers, page = site.get("/acme/encoder/1", Accept="text/html")
        assert (status, headers.get_content_type()) == (200, "text/html")
        assert b"https://models.example.org/acme/encoder/1" in page
        assert b"Half plus two" in page


@needs_systemd
def test_systemd_has_nothing_to_say_against_the_unit(tmp_path: Path) -> None:
    (unit,) = [block for kind, block in BLOCK.findall(DOCUMENT) if kind == "ini"]
    (tmp_path / "hubd-host.service").write_text(unit.replace("/usr/local/bin/hubd", sys.executable))
    command = ["systemd-analyze", "verify", "--man=no", str(tmp_path / "hubd-host.service")]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def check_archive(site: Site, archive: bytes) -> None:
    """The archive whole and in parts, each with the headers of the guide."""
    path = "/acme/encoder/1?tf-hub-format=compressed"
    status, headers, body = site.get(path)
    assert (status, body, headers["Content-Type"]) == (200, archive, "application/gzip")
    assert (headers["Cache-Control"], headers["Content-Encoding"]) == (FOR_GOOD, None)
    assert headers["Accept-Ranges"] == "bytes"
    status, parts, body = site.get(path, Range="bytes=100-199", If_Range=headers["ETag"])
    assert (status, body) == (206, archive[100:200])
    assert parts["Content-Range"] == f"bytes 100-199/{len(archive)}"
    assert site.get(path, If_None_Match=headers["ETag"])[0] == 304
    status, head, body = site.get(path, "HEAD")
    assert (status, head["Content-Length"], body) == (200, str(len(archive)), b"")

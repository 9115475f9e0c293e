"""Credentials: what may be one, where it may go, and that nothing tells it but the header that it is for."""

from __future__ import annotations

import copy
import json
import logging
import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
from yarl import URL

from hubclient.contract.credentials import MAX_VALUE_LENGTH, Credential, Type, authority, may_travel
from hubclient.contract.errors import HandleForbidden
from hubd.api.messages import ResolveRequest
from hubd.config import ConfigError
from hubd.config_stores import CredentialSettings
from hubd.fetching.resolver import Ask
from hubd.network.credentials import MachineCredentials, OwnCredential, credential_for
from hubd.network.sources import ArchiveRequest
from tests.support.uids import ALICE, needs_root

SECRET = "kN7-tell_nobody"
TOKEN = Credential("bearer", SECRET)
HOME = "https://models.lan:8443/m/1"


def way(*urls: str) -> list[URL]:
    return [URL(url, encoded=True) for url in urls]


def own(home: str) -> OwnCredential:
    return OwnCredential(TOKEN, URL(home, encoded=True))


def entry(file: Path, host: str = "models.lan", kind: Type = "bearer") -> CredentialSettings:
    return CredentialSettings(host=host, type=kind, file=str(file))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"{SECRET}\n")
    path.chmod(0o600)
    return path


def test_the_headers_are_those_of_the_standards() -> None:
    assert TOKEN.header() == f"Bearer {SECRET}"
    # RFC 7617, section 2
    assert Credential("basic", "Aladdin:open sesame").header() == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="


def test_nothing_that_holds_a_credential_shows_its_value() -> None:
    asked = {"handle": HOME, "credential": {"type": "bearer", "value": SECRET}}
    request = ResolveRequest.model_validate(asked)
    assert request.credential is not None
    assert request.credential.credential == TOKEN
    holders = [TOKEN, Ask(HOME, credential=TOKEN), ArchiveRequest(HOME, credential=TOKEN), own(HOME), request]
    for holder in holders:
        assert SECRET not in f"{holder} {holder!r}"
    assert SECRET not in request.model_dump_json()
    for write_down in (pickle.dumps, json.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            write_down(TOKEN)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("bearer", ""),
        ("bearer", "two words"),
        ("bearer", f"{SECRET}\r\nHost: x"),
        ("bearer", f"{SECRET}é"),
        ("bearer", SECRET + "x" * MAX_VALUE_LENGTH),
        ("basic", SECRET),
        ("basic", f"u:{SECRET}\x00"),
        ("digest", SECRET),
    ],
)
def test_what_cannot_stand_in_a_header_is_refused_without_being_repeated(kind: Type, value: str) -> None:
    with pytest.raises(ValueError, match=r"credential|token") as refusal:
        Credential(kind, value)
    assert SECRET not in str(refusal.value)
    with pytest.raises(ValueError, match="credential"):
        ResolveRequest.model_validate({"handle": HOME, "credential": {"type": kind, "value": value}})


def test_a_callers_own_is_for_hosts_and_not_for_object_stores() -> None:
    asked = {"handle": "S3://bucket/m/1", "credential": {"type": "bearer", "value": SECRET}}
    with pytest.raises(ValueError, match=r"object stores are shown the daemon's own") as refusal:
        ResolveRequest.model_validate(asked)
    assert "credential.value" not in str(refusal.value)


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("Models.LAN", "models.lan"),
        ("models.lan:443", "models.lan"),
        ("models.lan:8443", "models.lan:8443"),
        ("[::1]:80", "[::1]:80"),
        ("bücher.example", "xn--bcher-kva.example"),
    ],
)
def test_a_host_has_one_spelling(written: str, plain: str) -> None:
    assert authority(written) == plain


@pytest.mark.parametrize("written", ["", "https://h", "h/", "h/m", "u@h", "h?", "h?a=b", "h#", "h:x", "*.h", "a b"])
def test_what_is_no_host_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="must be a host"):
        authority(written)


@pytest.mark.parametrize(
    ("scheme", "host", "may"),
    [
        ("https", "models.lan", True),
        ("http", "models.lan", False),
        ("http", "127.0.0.1", True),
        ("http", "127.8.9.1", True),
        ("http", "::1", True),
        ("http", "localhost", True),
        ("http", "localhost.lan", False),
        ("http", "127.0.0.1.lan", False),
        ("http", "127.1", False),
        ("http", "10.0.0.1", False),
        ("http", "0.0.0.0", False),
        ("file", "localhost", False),
    ],
)
def test_plain_http_carries_none_but_to_loopback(scheme: str, host: str, may: bool) -> None:
    assert may_travel(scheme, host) is may


@pytest.mark.parametrize(
    ("urls", "sent"),
    [
        ([HOME], True),
        ([HOME, "https://models.lan:8443/elsewhere"], True),
        ([HOME, "https://MODELS.lan:8443/elsewhere"], True),
        ([HOME, "https://models.lan/elsewhere"], False),
        ([HOME, "https://models.lan:8444/elsewhere"], False),
        ([HOME, "https://storage.lan:8443/m"], False),
        ([HOME, "https://x.models.lan:8443/m"], False),
        ([HOME, "https://storage.lan/m", HOME], False),  # nor back again
        (["https://mirror.lan/m/1"], False),
        (["https://mirror.lan/m/1", HOME], False),
    ],
)
def test_a_callers_own_goes_to_the_host_and_port_of_its_handle_alone(urls: list[str], sent: bool) -> None:
    assert (credential_for(way(*urls), own(HOME)) == TOKEN) is sent
    assert credential_for(way(*urls), None) is None


def test_a_callers_own_never_goes_over_plain_http_but_to_loopback() -> None:
    with pytest.raises(HandleForbidden, match="use https://"):
        own("http://models.lan/m")
    assert credential_for(way("http://127.0.0.1:80/m"), own("http://127.0.0.1/m")) == TOKEN
    # The other scheme is another port.
    assert credential_for(way("http://127.0.0.1/m", "https://127.0.0.1/m"), own("http://127.0.0.1/m")) is None


def test_a_machines_goes_to_its_host_wherever_that_is_on_the_way(file: Path) -> None:
    machine = MachineCredentials([entry(file, "storage.lan")])
    assert credential_for(way(HOME), None, machine) is None
    assert credential_for(way(HOME, "https://storage.lan/m"), own(HOME), machine) == TOKEN
    assert credential_for(way(HOME, "https://storage.lan:444/m"), None, machine) is None
    assert credential_for(way("http://storage.lan/m"), None, machine) is None


def test_a_callers_own_comes_before_the_machines(file: Path) -> None:
    machine, callers = MachineCredentials([entry(file)]), Credential("basic", "alice:hers")
    home = URL("https://models.lan/m/1")
    assert credential_for([home], OwnCredential(callers, home), machine) == callers
    assert credential_for([home], None, machine) == TOKEN


def test_a_file_that_changes_is_read_again(file: Path, tmp_path: Path) -> None:
    machine = MachineCredentials([entry(file)])
    (tmp_path / "new").write_text("rotated")
    (tmp_path / "new").chmod(0o640)
    (tmp_path / "new").rename(file)
    assert machine.of("models.lan") == replace(TOKEN, value="rotated")


def test_a_file_that_cannot_be_used_any_more_is_none_until_it_can(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    machine = MachineCredentials([entry(file)])
    file.chmod(0o644)
    with caplog.at_level(logging.WARNING):
        assert [machine.of("models.lan"), machine.of("models.lan")] == [None, None]
    assert len(caplog.records) == 1
    assert "mode 0644" in caplog.text
    file.chmod(0o600)
    assert machine.of("models.lan") == TOKEN
    file.unlink()
    assert machine.of("models.lan") is None
    assert "cannot be read: No such file" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o660, 0o601])
def test_a_file_that_others_can_read_or_write_is_refused_at_the_start(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(ConfigError, match=rf"\[\[credential\]\] for models.lan: {file} .*mode 0{mode:o}.*0600 or 0640"):
        MachineCredentials([entry(file)])


@pytest.mark.parametrize("content", [b"", b"\n", b"one\ntwo\n", b"\xff", b"x" * 9000, f"u {SECRET}".encode()])
def test_a_file_that_holds_no_credential_is_refused_without_being_repeated(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=str(file)) as refusal:
        MachineCredentials([entry(file)])
    assert SECRET not in str(refusal.value)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in ("none", "pipe", "."):
        with pytest.raises(ConfigError):
            MachineCredentials([entry(tmp_path / name)])


@needs_root
def test_a_file_of_another_user_is_refused(file: Path) -> None:
    os.chown(file, ALICE, ALICE)
    with pytest.raises(ConfigError, match=f"belongs to uid {ALICE}"):
        MachineCredentials([entry(file)])

"""What is shown to object stores: what a file must be, where a user's own is found, and that no secret is repeated."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hubd.objects import keys, standard_places
from hubd.objects.keys import AwsKeys, AzureKey, AzureSas
from hubd.objects.standard_places import StandardPlaces

SECRET = "kN7-tell_nobody"
AWS = f"aws_access_key_id = AKID\naws_secret_access_key={SECRET}\n"
GOOGLE = {"type": "service_account", "client_email": "a@b", "private_key": SECRET, "private_key_id": "1"}


@pytest.mark.parametrize(
    ("kind", "text", "found"),
    [
        ("aws-keys", f"[default]\n{AWS}", AwsKeys("AKID", SECRET)),
        ("aws-keys", f"# mine\n[lab]\n{AWS}region = x\n", AwsKeys("AKID", SECRET)),
        ("aws-keys", f"[lab]\n[default]\n{AWS}aws_session_token = %t=\n", AwsKeys("AKID", SECRET, "%t=")),
        ("azure-key", "c2VjcmV0\n", AzureKey("c2VjcmV0")),
        ("azure-sas", "?sv=1&sig=a%2Fb\n", AzureSas("sv=1&sig=a%2Fb")),
    ],
)
def test_a_file_holds_what_the_providers_programs_write(kind: str, text: str, found: keys.Keys) -> None:
    assert keys.parser(kind)(text.encode()) == found
    assert SECRET not in repr(found)


def test_of_a_service_accounts_file_only_the_key_is_taken() -> None:
    stated = {**GOOGLE, "gcs_base_url": "http://169.254.169.254", "token_uri": "http://x", "disable_oauth": True}
    found = keys.google_key(json.dumps(stated).encode())
    assert json.loads(found.document) == {name: value for name, value in GOOGLE.items() if name != "type"}
    assert SECRET not in repr(found)


@pytest.mark.parametrize(
    ("kind", "text", "told"),
    [
        ("aws-keys", SECRET, "is no file like ~/.aws/credentials"),
        ("aws-keys", f"[a]\n{AWS}[b]\n{AWS}", r"must have a section \[default\]"),
        ("aws-keys", "[default]\naws_access_key_id = AKID\n", "must state aws_access_key_id and aws_secret"),
        ("aws-keys", f"[default]\n{AWS.replace('AKID', 'A KID')}", "must state"),
        ("aws-keys", "", "must have a section"),
        ("google-service-account", SECRET, "is no JSON file with the key of a service account"),
        ("google-service-account", json.dumps({**GOOGLE, "type": "authorized_user"}), "is no JSON file"),
        ("google-service-account", json.dumps({**GOOGLE, "private_key": 1}), "is no JSON file"),
        ("google-service-account", "[" * 100_000, "is no JSON file"),
        ("azure-key", SECRET, "the account's key in base64"),
        ("azure-key", "", "the account's key in base64"),
        ("azure-sas", f"sv={SECRET}", "a shared access signature"),
        ("azure-sas", "sig=a b", "a shared access signature"),
    ],
)
def test_what_is_no_credential_is_refused_without_being_repeated(kind: str, text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told) as refusal:
        keys.parser(kind)(text.encode())
    assert SECRET not in str(refusal.value)


def test_a_users_own_are_where_the_providers_programs_look(tmp_path: Path) -> None:
    def private(name: str, text: str) -> str:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
        return str(tmp_path / name)

    home = {"HOME": str(tmp_path)}
    assert [StandardPlaces(home).keys(scheme) for scheme in ("s3", "gs", "az")] == [None, None, None]
    private(".aws/credentials", f"[default]\n{AWS}[lab]\n{AWS.replace('AKID', 'LAB')}")
    private(".config/gcloud/application_default_credentials.json", json.dumps(GOOGLE))
    assert StandardPlaces(home).keys("s3") == AwsKeys("AKID", SECRET)
    assert StandardPlaces({**home, "AWS_PROFILE": "lab"}).keys("s3") == AwsKeys("LAB", SECRET)
    other = private("other.ini", f"[default]\n{AWS.replace('AKID', 'OTHER')}")
    assert StandardPlaces({**home, "AWS_SHARED_CREDENTIALS_FILE": other}).keys("s3") == AwsKeys("OTHER", SECRET)
    stated = {"AWS_ACCESS_KEY_ID": "E", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": "t"}
    assert StandardPlaces({**home, **stated}).keys("s3") == AwsKeys("E", SECRET, "t")
    assert StandardPlaces({**home, **stated, "AWS_SESSION_TOKEN": ""}).keys("s3") == AwsKeys("E", SECRET)
    assert StandardPlaces(home).keys("gs") == keys.google_key(json.dumps(GOOGLE).encode())
    azure = StandardPlaces({**home, "AZURE_STORAGE_KEY": "c2VjcmV0", "AZURE_STORAGE_ACCOUNT": "lab"})
    assert (azure.keys("az"), azure.azure_account) == (AzureKey("c2VjcmV0"), "lab")
    assert StandardPlaces({**home, "AZURE_STORAGE_ACCOUNT": ""}).azure_account is None
    assert StandardPlaces({**home, "AZURE_STORAGE_SAS_TOKEN": "?sig=a"}).keys("az", "any") == AzureSas("sig=a")


def test_a_users_own_that_cannot_be_used_is_none_and_the_log_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "open.ini").write_text(f"[default]\n{AWS}")
    (tmp_path / "open.ini").chmod(0o644)
    environ = {"HOME": str(tmp_path), "AWS_SHARED_CREDENTIALS_FILE": f"{tmp_path}/open.ini", "AZURE_STORAGE_KEY": "-"}
    with caplog.at_level(logging.WARNING):
        theirs = StandardPlaces(environ)
        assert [theirs.keys(scheme) for scheme in ("s3", "az", "s3", "az")] == [None] * 4
    assert caplog.text.count("there is no credential for ") == 2  # and not at each request
    assert "there is no credential for s3://" in caplog.text
    assert "chmod it to 0600" in caplog.text
    assert "AZURE_STORAGE_... must have one line" in caplog.text
    assert SECRET not in caplog.text


def test_what_the_library_would_heed_is_taken_out_of_the_environment() -> None:
    environ = {
        "AWS_ACCESS_KEY_ID": "a",
        "GOOGLE_BUCKET": "b",
        "AZURE_X": "c",
        "https_proxy": "d",
        "ALL_PROXY": "e",
        "SERVICE_ACCOUNT": "f",
        "IDENTITY_ENDPOINT": "g",
        "PATH": "h",
    }
    before = dict(environ)
    assert standard_places.take(environ) == before
    assert environ == {"PATH": "h"}


@pytest.mark.parametrize("name", ["SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_APPLICATION_CREDENTIALS"])
def test_what_was_taken_out_no_longer_keeps_a_bucket_from_being_asked(name: str, tmp_path: Path) -> None:
    program = (
        "import os, sys; from hubd.objects import backend, endpoints, standard_places, urls; "
        "_ = sys.argv[1:] and standard_places.take(os.environ); "
        "place = endpoints.place(urls.ObjectUrl('gs', 'b', 'm'), ()); "
        "print(type(backend.client(place, None, backend.Connecting(1.0))).__name__)"
    )

    def run(*arguments: str) -> str:
        environ = {**os.environ, "HOME": str(tmp_path), name: str(tmp_path / "missing")}
        command = [sys.executable, "-c", program, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environ).stdout

    assert run() == ""  # or this test would prove nothing
    assert run("take") == "GCSStore\n"


def test_a_daemon_that_asks_no_object_store_does_not_load_what_would() -> None:
    program = (
        "import sys, hubd.service; from hubd.config import Settings; from hubd.network.upstream import Upstream; "
        "Upstream(Settings()); print('obstore' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.strip() == "False"

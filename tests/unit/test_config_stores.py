"""Settings of object stores: one spelling, the longest match, and mistakes that name the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from hubd import config
from hubd.config import ConfigError
from hubd.config_stores import longest

CREDENTIAL = '[[credential]]\nstore = "{}"\ntype = "{}"\nfile = "/etc/hubd/secret"\n'


def load(tmp_path: Path, text: str) -> config.Settings:
    file = tmp_path / "hubd.toml"
    file.write_text(text)
    return config.load(str(file), user=False)


def test_stores_have_one_spelling(tmp_path: Path) -> None:
    stated = load(
        tmp_path,
        '[fleet]\nstore = "S3://Bucket/models/"\n'
        '[[object_store]]\nmatch = "S3://"\nendpoint = "https://MinIO.lan:443/"\nregion = "eu-west-1"\n'
        '[[object_store]]\nmatch = "az://modules"\naccount = "mystorage"\n'
        + CREDENTIAL.format("gs://b/", "google-service-account"),
    )
    assert stated.fleet.store == "s3://Bucket/models"
    assert [(store.match, store.endpoint) for store in stated.object_store] == [
        ("s3://", "https://minio.lan"),
        ("az://modules", None),
    ]
    assert stated.credential[0].store == "gs://b"


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("s3://a/b/c", "s3://a/b"),
        ("s3://a/b", "s3://a/b"),
        ("s3://a/bc", "s3://a"),
        ("s3://ab/b", "s3://"),
        ("gs://a/b", None),
    ],
)
def test_the_longest_match_by_whole_segments_decides(url: str, found: str | None) -> None:
    assert longest([(prefix, prefix) for prefix in ("s3://", "s3://a", "s3://a/b")], url) == found


@pytest.mark.parametrize(
    ("stated", "told"),
    [
        (
            '[fleet]\nstore = "https://bucket"',
            r'fleet\.store: must be a URL such as "s3://bucket/prefix": s3://, gs://',
        ),
        ('[fleet]\nstore = "s3:///x"', r"fleet\.store: .* names a bucket"),
        ('[fleet]\nstore = "s3://b/../x"', r"fleet\.store: .* '\.\.' segment"),
        ('[fleet]\nstore = "az://c/x"', r"fleet: store: az:// needs an \[\[object_store\]\] that matches az://c/x"),
        ('[fleet]\nmode = "write"', r"fleet\.mode: Input should be 'read-write' or 'read-only'"),
        ('[[object_store]]\nmatch = "ftp://"', r"object_store\.0\.match: must be a URL such as"),
        (
            '[[object_store]]\nmatch = "s3://"\nendpoint = "http://169.254.169.254/"',
            r"object_store\.0\.endpoint: 169\.254\.169\.254 is a link-local.* never contacted",
        ),
        ('[[object_store]]\nmatch = "s3://"\nendpoint = "http://0xa9fea9fe"', r"endpoint: 169\.254\.169\.254 is"),
        ('[[object_store]]\nmatch = "s3://"\nendpoint = "http://[fd00:ec2::254]"', r"endpoint: fd00:ec2::254 is"),
        ('[[object_store]]\nmatch = "s3://"\nendpoint = "minio.lan:9000"', r"endpoint: an endpoint must be a URL"),
        ('[[object_store]]\nmatch = "s3://"\nendpoint = "https://a:b@minio.lan"', r"endpoint: .*user info"),
        ('[[object_store]]\nmatch = "az://c"', r"object_store\.0: az:// needs the name of the storage account"),
        (
            '[[object_store]]\nmatch = "az://c"\naccount = "My.Account"',
            r"object_store\.0\.account: String should match",
        ),
        ('[[object_store]]\nmatch = "gs://"\nregion = "eu"', r"object_store\.0: region means nothing for gs://"),
        (
            '[[object_store]]\nmatch = "s3://b"\n[[object_store]]\nmatch = "S3://b/"',
            "object_store: two entries for one match",
        ),
        (CREDENTIAL.format("s3://", "aws-keys"), r"credential\.0\.store: .* names a bucket"),
        (
            CREDENTIAL.format("s3://b", "azure-key"),
            r"credential\.0: type: a credential for s3:// is of type 'aws-keys'",
        ),
        (CREDENTIAL.format("az://c", "bearer"), r"credential\.0: type: .* 'azure-key' or 'azure-sas'"),
        (CREDENTIAL.format("gs://b", "google-service-account") * 2, "credential: two entries for one store"),
        (
            '[[credential]]\nhost = "h"\ntype = "aws-keys"\nfile = "/f"',
            "type: a credential for a host is of type 'bearer'",
        ),
        ('[[credential]]\ntype = "bearer"\nfile = "/f"', r"credential\.0: names either a host or a store"),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line_with_the_remedy(tmp_path: Path, stated: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        load(tmp_path, stated + "\n")
    assert len(str(caught.value).splitlines()) == 1

"""What is shown to an object store: read from a file of the configuration, or of the user's own standard places.

Law: no secret is in a `repr` or in an error, and nothing but what is named here is taken from a file.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs

MAX_FILE_BYTES = 64 * 1024


@dataclass(frozen=True)
class AwsKeys:
    key_id: str
    secret: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class GoogleKey:
    """A service account's, as the JSON document that obstore takes."""

    document: str = field(repr=False)


@dataclass(frozen=True)
class AzureKey:
    key: str = field(repr=False)


@dataclass(frozen=True)
class AzureSas:
    """A query, without its question mark, that is appended to URLs as it is."""

    query: str = field(repr=False)


Keys = AwsKeys | GoogleKey | AzureKey | AzureSas


def parser(kind: str) -> Callable[[bytes], Keys]:
    """What makes keys of a file, by the type of a ``[[credential]]``. It raises `ValueError` with what is wrong."""
    parsers: dict[str, Callable[[bytes], Keys]] = {
        "aws-keys": aws_keys,
        "google-service-account": google_key,
        "azure-key": azure_key,
        "azure-sas": azure_sas,
    }
    return parsers[kind]


def aws_keys(data: bytes, profile: str = "default") -> AwsKeys:
    """Of a file like ``~/.aws/credentials``: the section `profile`, or the only one that there is."""
    import configparser  # which most daemons never need

    ini = configparser.ConfigParser(interpolation=None, default_section="\0")  # [default] is a section like others
    try:
        ini.read_string(data.decode())
    except (configparser.Error, UnicodeDecodeError):  # which would repeat what is in the file
        raise ValueError("is no file like ~/.aws/credentials: [default], and lines of key = value") from None
    names = ini.sections()
    name = profile if profile in names else names[0] if len(names) == 1 and profile == "default" else None
    if name is None:
        raise ValueError(f"must have a section [{profile}]")
    section = ini[name]
    found = [_word(section.get(key, "")) for key in ("aws_access_key_id", "aws_secret_access_key")]
    if not all(found):
        raise ValueError("must state aws_access_key_id and aws_secret_access_key")
    return AwsKeys(found[0], found[1], _word(section.get("aws_session_token", "")) or None)


def google_key(data: bytes) -> GoogleKey:
    """Of a service account's JSON file. Where such a file names other endpoints, that is not heeded."""
    try:
        document = json.loads(data)
        if document["type"] != "service_account":
            raise ValueError
        stated = {key: document[key] for key in ("client_email", "private_key", "private_key_id")}
        if not all(isinstance(value, str) and value for value in stated.values()):
            raise ValueError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError("is no JSON file with the key of a service account") from None
    return GoogleKey(json.dumps(stated))


def azure_key(data: bytes) -> AzureKey:
    """Of a file with a storage account's key in its one line."""
    try:
        text = data.decode("ascii").strip()
        is_key = bool(base64.b64decode(text, validate=True))
    except (UnicodeDecodeError, binascii.Error):
        is_key = False
    if not is_key:
        raise ValueError("must have one line, the account's key in base64")
    return AzureKey(text)


def azure_sas(data: bytes) -> AzureSas:
    """Of a file with a shared access signature in its one line."""
    try:
        text = _word(data.decode("ascii")).removeprefix("?")
    except UnicodeDecodeError:
        text = ""
    if "sig" not in parse_qs(text):
        raise ValueError("must have one line, a shared access signature: sv=...&sig=...")
    return AzureSas(text)


def _word(text: str) -> str:
    """Empty unless it can stand in a header or a URL."""
    text = text.strip()
    return text if text.isascii() and text.isprintable() and " " not in text else ""

"""Settings of object stores: how buckets are reached, what is shown to them, and which of them a fleet shares.

Law: an entry holds for whole segments of a path, and the longest one that matches decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, TypeVar, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, model_validator

from hubclient.contract import credentials, handles
from hubclient.contract.errors import HandleInvalid
from hubd import config_urls
from hubd.addresses import is_never_contacted, literal
from hubd.config_values import AbsolutePath, Section, Timeout

StoreCredentialType = Literal["aws-keys", "google-service-account", "azure-key", "azure-sas"]

_SCHEMES = ("s3://", "gs://", "az://")
_TYPES = {"s3": ("aws-keys",), "gs": ("google-service-account",), "az": ("azure-key", "azure-sas")}
_ONLY_FOR = {"region": "s3", "virtual_hosted": "s3", "account": "az"}


def bucket_url(value: object) -> str:
    """A bucket, or what begins with a path in it, without a slash at the end."""
    if not isinstance(value, str) or not handles.is_object(value):
        raise ValueError('must be a URL such as "s3://bucket/prefix": s3://, gs:// or az://')
    try:
        scheme, bucket, path = handles.object_parts(value)
    except HandleInvalid as error:
        raise ValueError(
            f"must be a URL such as s3://bucket/prefix: {str(error).replace('the handle', 'it')}"
        ) from None
    return f"{scheme}://{bucket}" + (f"/{path}" if path else "")


def bucket_prefix(value: object) -> str:
    """As `bucket_url`, or ``s3://`` for all buckets of a scheme."""
    if isinstance(value, str) and value.lower() in _SCHEMES:
        return value.lower()
    return bucket_url(value)


def _endpoint(value: object) -> str:
    url = config_urls.plain_url(value, "an endpoint").rstrip("/")
    address = literal(urlsplit(url).hostname or "")
    if address is not None and is_never_contacted(address):
        raise ValueError(f"{address} is a link-local, multicast or unspecified address, which is never contacted")
    return url


class ObjectStoreSettings(Section):
    """How the buckets that `match` covers are reached."""

    match: Annotated[str, BeforeValidator(bucket_prefix)]
    endpoint: Annotated[str, BeforeValidator(_endpoint)] | None = None
    region: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")] | None = None
    account: Annotated[str, Field(pattern=r"^[a-z0-9]{3,24}$")] | None = None
    virtual_hosted: StrictBool = False

    @model_validator(mode="after")
    def _fits(self) -> ObjectStoreSettings:
        scheme = self.match[:2]
        for name, only in _ONLY_FOR.items():
            if getattr(self, name) and scheme != only:
                raise ValueError(f"{name} means nothing for {scheme}://")
        if scheme == "az" and self.account is None:
            raise ValueError('az:// needs the name of the storage account: account = "..."')
        return self


class CredentialSettings(Section):
    """What this machine shows to a host, or to an object store; all who use the machine get what it opens."""

    host: Annotated[str, AfterValidator(credentials.authority)] | None = None
    store: Annotated[str, BeforeValidator(bucket_url)] | None = None
    type: credentials.Type | StoreCredentialType
    file: AbsolutePath

    @model_validator(mode="after")
    def _fits(self) -> CredentialSettings:
        if (self.host is None) == (self.store is None):
            raise ValueError("names either a host or a store")
        fitting = get_args(credentials.Type) if self.store is None else _TYPES[self.store[:2]]
        if self.type not in fitting:
            whose = "a host" if self.store is None else f"{self.store[:2]}://"
            raise ValueError(f"type: a credential for {whose} is of type {' or '.join(map(repr, fitting))}")
        return self


class FleetSettings(Section):
    """What machines share through a bucket."""

    store: Annotated[str, BeforeValidator(bucket_url)] | None = None
    mode: Literal["read-write", "read-only"] = "read-write"
    claim_timeout: Timeout = 30.0
    max_wait: Timeout = 600.0
    share_credentialed: StrictBool = False


Entry = TypeVar("Entry")


def longest(entries: Iterable[tuple[str, Entry]], url: str) -> Entry | None:
    """Of entries by what they match, the one that matches most of ``s3://bucket/path``; None: none does."""
    found = [(prefix, entry) for prefix, entry in entries if _matches(prefix, url)]
    return max(found, key=lambda one: len(one[0]))[1] if found else None


def _matches(prefix: str, url: str) -> bool:
    return url == prefix or url.startswith(prefix if prefix.endswith("://") else prefix + "/")

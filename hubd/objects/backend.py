"""obstore's client of one bucket.

Law: it is told everything, so that it looks for nothing by itself, and tries nothing again. It is loaded when an object
store is first used, since it takes memory and threads.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from hubd import __version__
from hubd.objects.endpoints import Place
from hubd.objects.keys import AwsKeys, AzureKey, AzureSas, GoogleKey, Keys

if TYPE_CHECKING:
    from obstore.store import AzureStore, ClientConfig, GCSStore, S3Store

    Client = S3Store | GCSStore | AzureStore

#: Each part of an upload is one request, which may take so long: 14 KB/s at least.
_REQUEST_SECONDS = 600.0
_IDLE_SECONDS = 30.0


@dataclass(frozen=True)
class Connecting:
    """By which way requests go. `certificates`: in PEM format, trusted beside the system's; `proxy` has credentials."""

    timeout_seconds: float
    is_verified: bool = True
    certificates: bytes | None = None
    proxy: str | None = field(default=None, repr=False)


def client(place: Place, keys: Keys | None, connecting: Connecting) -> Client:
    """Reads no file and connects to nothing. Without keys the bucket is asked as anybody would ask."""
    from obstore.store import AzureStore, GCSStore, S3Store

    # The parameters' types differ by scheme; those of the stores hold for what is passed on.
    common: dict[str, Any] = {
        "client_options": _options(place, connecting),
        "retry_config": {"max_retries": 0},
        "skip_signature": keys is None,
    }
    if place.scheme == "s3":
        aws: dict[str, Any] = {}
        if isinstance(keys, AwsKeys):
            aws = {"access_key_id": keys.key_id, "secret_access_key": keys.secret}
            aws |= {"session_token": keys.token} if keys.token is not None else {}
        return S3Store(
            place.bucket,
            endpoint=place.endpoint,
            region=place.region,
            virtual_hosted_style_request=place.virtual_hosted,
            conditional_put="etag",
            **aws,
            **common,
        )
    if place.scheme == "gs":
        google: dict[str, Any] = {"service_account_key": keys.document} if isinstance(keys, GoogleKey) else {}
        return GCSStore(place.bucket, base_url=place.endpoint, **google, **common)
    azure: dict[str, Any] = {}
    if isinstance(keys, AzureKey):
        azure = {"account_key": keys.key}
    elif isinstance(keys, AzureSas):
        azure = {"sas_key": keys.query}
    return AzureStore(place.bucket, account_name=place.account, endpoint=place.endpoint, **azure, **common)


def _options(place: Place, connecting: Connecting) -> ClientConfig:
    options: ClientConfig = {
        "allow_http": place.base.startswith("http://"),
        "allow_invalid_certificates": not connecting.is_verified,
        "connect_timeout": timedelta(seconds=connecting.timeout_seconds),
        "timeout": timedelta(seconds=_REQUEST_SECONDS),
        "pool_idle_timeout": timedelta(seconds=_IDLE_SECONDS),
        "user_agent": f"hubd/{__version__}",
    }
    if connecting.certificates is not None:
        options["root_certificate"] = connecting.certificates
    if connecting.proxy is not None:
        options["proxy_url"] = connecting.proxy
    return options

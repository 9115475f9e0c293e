"""Where a bucket is: at the endpoint that the settings name for it, else at its provider's own.

Law: an endpoint is stated in full, and comes from the settings or from here; never from a handle or from an answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote

from yarl import URL

from hubclient.contract.errors import HandleForbidden
from hubd.config_stores import ObjectStoreSettings, longest
from hubd.objects import shared_access
from hubd.objects.urls import ObjectUrl

DEFAULT_REGION = "us-east-1"
_GOOGLE = "https://storage.googleapis.com"


@dataclass(frozen=True)
class Place:
    """How one bucket is reached.

    `endpoint`: as obstore takes it; `base`: what the URLs of the bucket's objects begin with. `is_named`: the settings
    name the endpoint. `region` is of S3, `account` of Azure.
    """

    scheme: str
    bucket: str
    endpoint: str
    base: str
    is_named: bool
    region: str = DEFAULT_REGION
    account: str = ""
    virtual_hosted: bool = False

    @property
    def root(self) -> str:
        return f"{self.scheme}://{self.bucket}"

    @property
    def host(self) -> str:
        return (URL(self.base, encoded=True).raw_host or "").lower()

    @property
    def headers(self) -> dict[str, str]:
        """What each request states. Who shows Azure nothing, and names no version of its protocol, is answered as in
        2009: its ETags have no quotes then, and its ranges always an end.
        """
        return {"x-ms-version": shared_access.VERSION} if self.scheme == "az" else {}

    def object_url(self, path: str) -> str:
        """The plain URL of an object; of the bucket, for an empty path."""
        return f"{self.base}/{quote(path, safe='/~')}" if path else self.base


def place(url: ObjectUrl, entries: Iterable[ObjectStoreSettings], account: str | None = None) -> Place:
    """`account`: of Azure, where the settings name none. Raises `HandleForbidden` when that is missing."""
    found = longest(((entry.match, entry) for entry in entries), str(url))
    stated = found.endpoint if found is not None else None
    if url.scheme == "az":
        account = (found.account if found is not None else None) or account
        if account is None:
            raise HandleForbidden(
                f"{url.root} is of no storage account that is known here: an [[object_store]] with "
                f'match = "{url.root}" and account = "..." says which'
            )
        endpoint = stated or f"https://{account}.blob.core.windows.net"
        return Place("az", url.bucket, endpoint, f"{endpoint}/{url.bucket}", stated is not None, account=account)
    if url.scheme == "gs":
        endpoint = stated or _GOOGLE
        return Place("gs", url.bucket, endpoint, f"{endpoint}/{url.bucket}", stated is not None)
    region = (found.region if found is not None else None) or DEFAULT_REGION
    endpoint = stated or f"https://s3.{region}.amazonaws.com"
    if found is None or not found.virtual_hosted:
        return Place("s3", url.bucket, endpoint, f"{endpoint}/{url.bucket}", stated is not None, region)
    kind, _, rest = endpoint.partition("://")
    hosted = f"{kind}://{url.bucket}.{rest}"
    return Place("s3", url.bucket, hosted, hosted, stated is not None, region, virtual_hosted=True)

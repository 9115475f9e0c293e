"""What goes wrong at an object store, in our words.

Law: this is the one place where obstore's errors become ours. Nothing that a store wrote is repeated, nor any key; of
its answer only a status and a code that is known here count.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hubclient.contract.errors import (
    ArchiveUnsafe,
    HubError,
    UpstreamDenied,
    UpstreamNotFound,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from hubd.failures import BUSY, REDIRECTS, Busy

_STATUS = re.compile(r"status code: (\d{3})\b")
_TO_NOWHERE = re.compile(r"\bredirect without LOCATION\b")  # as Amazon's are, of a bucket in another region
_TIMED_OUT = re.compile(r"\bkind: Timeout\b")
_NO_BUCKET = re.compile(rb"NoSuchBucket|ContainerNotFound|ResourceNotFound|The specified bucket does not exist")
_EXPIRED = re.compile(
    rb"RequestTimeTooSkewed|Request has expired|ExpiredToken|Request is not yet valid"
    rb"|Signature not valid in the specified time frame"
)
_OTHER_REGION = re.compile(rb"the region (?:'[a-z0-9-]*' )?is wrong")  # in AuthorizationQueryParametersError and others
_DENIED = frozenset({401, 403})


class NoBucket(UpstreamNotFound):
    """The bucket itself is not there."""


@dataclass(frozen=True)
class Subject:
    """What is spoken of: a bucket, and the ``[[credential]]`` that is shown to it, if any."""

    root: str
    credential: str | None = None

    def no_bucket(self) -> NoBucket:
        return NoBucket(f"there is no bucket {self.root}: is its name right, and the endpoint of its [[object_store]]?")

    def denied(self, status: int | None = None) -> UpstreamDenied:
        how = f" (HTTP {status})" if status is not None else ""
        if self.credential is not None:
            return UpstreamDenied(f"{self.root} denies this to the credential for {self.credential}{how}")
        return UpstreamDenied(
            f"{self.root} denies this to whom it does not know{how}: a [[credential]] with "
            f'store = "{self.root}" says what is shown to it'
        )

    def expired(self, status: int) -> UpstreamDenied:
        """Signatures are made for each request: one that has expired was made by another clock."""
        return UpstreamDenied(
            f"{self.root} takes what it was shown for expired, or for made in times to come (HTTP {status}): is this "
            "machine's clock right, and a session token still new?"
        )

    def elsewhere(self) -> UpstreamUnavailable:
        return UpstreamUnavailable(
            f"{self.root} is redirected, which is not followed: is the region of its [[object_store]] right, "
            "and the endpoint?"
        )

    def other_region(self) -> UpstreamUnavailable:
        return UpstreamUnavailable(
            f"{self.root} is in another region than requests are signed for: is that of its [[object_store]] right?"
        )

    def timed_out(self) -> UpstreamTimeout:
        return UpstreamTimeout(f"{self.root} did not answer in time")

    def named(self, error: Exception) -> HubError:
        """The error of obstore's that a call ended with."""
        if isinstance(error, HubError):
            return error
        if isinstance(error, TimeoutError):
            return self.timed_out()
        kind, text = type(error).__name__, str(error)
        status = int(found[1]) if (found := _STATUS.search(text)) is not None else None
        if says_no_bucket(text.encode()):
            return self.no_bucket()
        if status is not None and says_expired(text.encode()):
            return self.expired(status)
        if says_other_region(text.encode()):
            return self.other_region()
        if kind == "InvalidPathError":
            return ArchiveUnsafe(
                f"{self.root} has an object whose name has an empty, '.' or '..' segment, and so cannot be listed"
            )
        if kind in ("PermissionDeniedError", "UnauthenticatedError") or status in _DENIED:
            return self.denied(status)
        if isinstance(error, FileNotFoundError):
            return UpstreamNotFound(f"{self.root} has no such object")
        if status in REDIRECTS or (status is None and _TO_NOWHERE.search(text) is not None):
            return self.elsewhere()
        if status in BUSY:
            return Busy(f"{self.root} answered HTTP {status}")
        if status is not None:
            return UpstreamUnavailable(f"{self.root} answered HTTP {status}")
        if _TIMED_OUT.search(text) is not None:
            return self.timed_out()
        return UpstreamUnavailable(f"{self.root} cannot be reached, or gave no usable answer ({kind})")


def says_no_bucket(body: bytes) -> bool:
    """Whether the body of an error says that it is the bucket which is missing."""
    return _NO_BUCKET.search(body) is not None


def says_expired(body: bytes) -> bool:
    """Whether the body of an error says that it is the time which is wrong."""
    return _EXPIRED.search(body) is not None


def says_other_region(body: bytes) -> bool:
    """Whether the body of an error says that it is the region which is wrong."""
    return _OTHER_REGION.search(body) is not None

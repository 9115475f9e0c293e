"""Kinds of an unavailable upstream that a retry has to know of, and the statuses that tell them.

Law: whoever raises one knows it from the answer itself; everything else may pass, and is tried again.
"""

from __future__ import annotations

from hubclient.contract.errors import UpstreamUnavailable

REDIRECTS = frozenset({301, 302, 303, 307, 308})  # that lead elsewhere (RFC 9110, section 15.4)
BUSY = frozenset({429, 503})


class Busy(UpstreamUnavailable):
    """Whoever was asked has too much to do; it may have said for how long (RFC 9110, section 10.2.3)."""

    def __init__(self, detail: str, retry_after_seconds: float = 0.0) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class Hopeless(UpstreamUnavailable):
    """Asking again in a moment cannot help: a certificate that is not trusted, say, or a loop of redirects."""


class Refused(Hopeless):
    """The origin refuses this one request (RFC 9110, section 15.5); others it may answer."""


class Unacceptable(Refused):
    """The origin does not have it in the form that was asked for (RFC 9110, sections 15.5.7 and 15.5.16)."""

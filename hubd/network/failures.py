"""Kinds of an unavailable origin that a retry has to know of.

Law: whoever raises one knows it from the answer itself; everything else may pass, and is tried again.
"""

from __future__ import annotations

from hubclient.contract.errors import UpstreamUnavailable
from hubd.objects.failures import Busy

__all__ = ["Busy", "Hopeless", "Refused", "Unacceptable"]


class Hopeless(UpstreamUnavailable):
    """Asking again in a moment cannot help: a certificate that is not trusted, say, or a loop of redirects."""


class Refused(Hopeless):
    """The origin refuses this one request (RFC 9110, section 15.5); others it may answer."""


class Unacceptable(Refused):
    """The origin does not have it in the form that was asked for (RFC 9110, sections 15.5.7 and 15.5.16)."""

"""Every error of hubd and hubclient, each with its code, its HTTP status and whether a retry may help.

A program decides by ``code`` (or by class), never by the text. On the wire an error is
``application/problem+json`` (RFC 9457) with the members ``code``, ``detail`` and ``retryable``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PROBLEM_CONTENT_TYPE = "application/problem+json"


class HubError(Exception):
    """The base of all errors: ``str(error)`` is the detail, for people; ``error.code`` is for programs."""

    code: str = "internal"
    status: int = 500
    retryable: bool = False

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    def problem(self) -> dict[str, Any]:
        """The body of a problem+json answer."""
        return {
            "title": self.code.replace("-", " "),
            "status": self.status,
            "code": self.code,
            "detail": self.detail,
            "retryable": self.retryable,
        }


class RequestInvalid(HubError):
    code, status = "request-invalid", 400


class RequestTooLarge(HubError):
    code, status = "request-too-large", 413


class NotFound(HubError):
    code, status = "not-found", 404


class HandleInvalid(HubError):
    code, status = "handle-invalid", 400


class HandleForbidden(HubError):
    code, status = "handle-forbidden", 403


class AddressForbidden(HubError):
    code, status = "address-forbidden", 403


class AccessDenied(HubError):
    code, status = "access-denied", 403


class UpstreamNotFound(HubError):
    code, status = "upstream-not-found", 404


class UpstreamDenied(HubError):
    code, status = "upstream-denied", 403


class UpstreamUnavailable(HubError):
    code, status, retryable = "upstream-unavailable", 503, True


class UpstreamTimeout(HubError):
    code, status, retryable = "upstream-timeout", 504, True


class ArchiveCorrupt(HubError):
    code, status, retryable = "archive-corrupt", 502, True


class ArchiveUnsafe(HubError):
    code, status = "archive-unsafe", 422


class ArchiveTooLarge(HubError):
    code, status = "archive-too-large", 413


class NotAModule(HubError, ValueError):  # tensorflow_hub raises a ValueError, which ported code may expect
    code, status = "not-a-module", 422


class DigestMismatch(HubError):
    code, status = "digest-mismatch", 409


class InUse(HubError):
    code, status, retryable = "in-use", 409, True


class CacheFull(HubError):
    code, status, retryable = "cache-full", 507, True


class DiskFull(HubError):
    code, status, retryable = "disk-full", 507, True


class Offline(HubError):
    code, status = "offline", 503


class FetchCancelled(HubError):
    code, status = "fetch-cancelled", 409


class TooBusy(HubError):
    """A limit is reached. After `retry_after_seconds`, which is also the answer's ``Retry-After``, it may be over."""

    code, status, retryable = "too-busy", 429, True
    retry_after_seconds = 2

    def problem(self) -> dict[str, Any]:
        return {**super().problem(), "retry_after_seconds": self.retry_after_seconds}


class ShuttingDown(HubError):
    code, status, retryable = "shutting-down", 503, True


class Internal(HubError):
    code, status = "internal", 500


# The client's own: no daemon answers with them.


class DaemonUnreachable(HubError):
    """No daemon answers, and none could be started."""

    code, status, retryable = "daemon-unreachable", 503, True


class CacheUntrusted(HubError):
    """Someone else could have planted what lies in this cache."""

    code, status = "cache-untrusted", 403


class CacheUnreachable(HubError):
    """The daemon's cache is not to be seen from this process (a container without the mount, say)."""

    code, status = "cache-unreachable", 500


def _with_code(base: type[HubError] = HubError) -> dict[str, type[HubError]]:
    return {cls.code: cls for cls in base.__subclasses__()}


BY_CODE: Mapping[str, type[HubError]] = _with_code()


def from_problem(problem: Mapping[str, Any]) -> HubError:
    """The exception that a problem+json body stands for.

    A code that this version does not know (a newer daemon's) gives a plain `HubError` that carries it.
    """
    code = str(problem.get("code", "internal"))
    error = BY_CODE.get(code, HubError)(str(problem.get("detail", "the daemon gave no detail")))
    if isinstance(error, TooBusy) and isinstance(seconds := problem.get("retry_after_seconds"), int):
        error.retry_after_seconds = max(0, seconds)
    if type(error) is HubError:
        error.code = code
        error.status = int(problem.get("status", 500))
        error.retryable = bool(problem.get("retryable", False))
    return error

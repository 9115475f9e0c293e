"""Get and load TensorFlow Hub modules through hubd.

Law: importing this costs milliseconds; each name is imported when it is first used.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hubclient.contract.errors import (
        AccessDenied,
        AddressForbidden,
        ArchiveCorrupt,
        ArchiveTooLarge,
        ArchiveUnsafe,
        CacheFull,
        CacheUnreachable,
        CacheUntrusted,
        DaemonUnreachable,
        DigestMismatch,
        DiskFull,
        HandleForbidden,
        HandleInvalid,
        HubError,
        Internal,
        InUse,
        NotAModule,
        NotFound,
        Offline,
        RequestInvalid,
        RequestTooLarge,
        ShuttingDown,
        TooBusy,
        UpstreamDenied,
        UpstreamNotFound,
        UpstreamTimeout,
        UpstreamUnavailable,
    )
    from hubclient.loading import TensorFlowMissing, load
    from hubclient.resolving import lease, resolve
    from hubclient.warning import HubWarning, StaleModuleWarning

__version__ = "0.1.0"

__all__ = [
    "AccessDenied",
    "AddressForbidden",
    "ArchiveCorrupt",
    "ArchiveTooLarge",
    "ArchiveUnsafe",
    "CacheFull",
    "CacheUnreachable",
    "CacheUntrusted",
    "DaemonUnreachable",
    "DigestMismatch",
    "DiskFull",
    "HandleForbidden",
    "HandleInvalid",
    "HubError",
    "HubWarning",
    "InUse",
    "Internal",
    "NotAModule",
    "NotFound",
    "Offline",
    "RequestInvalid",
    "RequestTooLarge",
    "ShuttingDown",
    "StaleModuleWarning",
    "TensorFlowMissing",
    "TooBusy",
    "UpstreamDenied",
    "UpstreamNotFound",
    "UpstreamTimeout",
    "UpstreamUnavailable",
    "lease",
    "load",
    "resolve",
]

_HOMES = {
    "load": "loading",
    "TensorFlowMissing": "loading",
    "resolve": "resolving",
    "lease": "resolving",
    "HubWarning": "warning",
    "StaleModuleWarning": "warning",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'contract.errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

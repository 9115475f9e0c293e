"""Get and load TensorFlow Hub modules through hubd.

Law: importing this costs milliseconds; each name is imported when it is first used.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hubclient import tfhub as tfhub
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
        FetchCancelled,
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
    from hubclient.exporting import export
    from hubclient.image_info import get_expected_image_size, get_num_image_channels
    from hubclient.keras_layer import KerasLayer
    from hubclient.loading import load
    from hubclient.model_errors import (
        Closed,
        ExportInvalid,
        Forked,
        InputInvalid,
        ModuleBroken,
        ModuleUnsupported,
        OutputNotFound,
        PathExists,
        RunFailed,
        SignatureNotFound,
        TensorFlowMissing,
        TensorFlowUnusable,
        VariantNotFound,
    )
    from hubclient.module import Module
    from hubclient.packing import pack
    from hubclient.resolving import lease, resolve
    from hubclient.signature_runner import SignatureRunner, Signatures, load_library, signatures
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
    "Closed",
    "DaemonUnreachable",
    "DigestMismatch",
    "DiskFull",
    "ExportInvalid",
    "FetchCancelled",
    "Forked",
    "HandleForbidden",
    "HandleInvalid",
    "HubError",
    "HubWarning",
    "InUse",
    "InputInvalid",
    "Internal",
    "KerasLayer",
    "Module",
    "ModuleBroken",
    "ModuleUnsupported",
    "NotAModule",
    "NotFound",
    "Offline",
    "OutputNotFound",
    "PathExists",
    "RequestInvalid",
    "RequestTooLarge",
    "RunFailed",
    "ShuttingDown",
    "SignatureNotFound",
    "SignatureRunner",
    "Signatures",
    "StaleModuleWarning",
    "TensorFlowMissing",
    "TensorFlowUnusable",
    "TooBusy",
    "UpstreamDenied",
    "UpstreamNotFound",
    "UpstreamTimeout",
    "UpstreamUnavailable",
    "VariantNotFound",
    "export",
    "get_expected_image_size",
    "get_num_image_channels",
    "lease",
    "load",
    "load_library",
    "pack",
    "resolve",
    "signatures",
]

_HOMES = {
    name: home
    for home, names in {
        "exporting": ("export",),
        "image_info": ("get_expected_image_size", "get_num_image_channels"),
        "keras_layer": ("KerasLayer",),
        "loading": ("load",),
        "model_errors": (
            "Closed",
            "ExportInvalid",
            "Forked",
            "InputInvalid",
            "ModuleBroken",
            "ModuleUnsupported",
            "OutputNotFound",
            "PathExists",
            "RunFailed",
            "SignatureNotFound",
            "TensorFlowMissing",
            "TensorFlowUnusable",
            "VariantNotFound",
        ),
        "module": ("Module",),
        "packing": ("pack",),
        "resolving": ("lease", "resolve"),
        "signature_runner": ("SignatureRunner", "Signatures", "load_library", "signatures"),
        "warning": ("HubWarning", "StaleModuleWarning"),
    }.items()
    for name in names
}


# Modules of their own, which `from hubclient import *` leaves alone.
_MODULES = ("tfhub",)


def __getattr__(name: str) -> object:
    if name not in __all__ and name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    value = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'contract.errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})

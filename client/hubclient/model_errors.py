"""The errors of using a module with TensorFlow; those of getting one are in `contract.errors`.

Law: whatever a module or its caller does wrong ends in one of these, each with a code. Where tensorflow_hub raises a
builtin exception for the same mistake, the class is a kind of that exception too, so that ported code goes on working.
"""

from __future__ import annotations

from hubclient.contract.errors import HubError


class TensorFlowMissing(HubError, ImportError):
    """There is no TensorFlow in this environment."""

    code = "tensorflow-missing"


class TensorFlowUnusable(HubError, ImportError):
    """The installed TensorFlow lacks what is needed: a wheel without the C API, say, or a version too old."""

    code = "tensorflow-unusable"


class VariantNotFound(HubError, ValueError, RuntimeError):
    """The module has no variant with these tags; the detail names those that it has."""

    code, status = "variant-not-found", 404


class SignatureNotFound(HubError, ValueError):
    """The variant has no signature of this name; the detail names those that it has."""

    code, status = "signature-not-found", 404


class OutputNotFound(HubError, ValueError):
    """The signature has no output of this name; the detail names those that it has."""

    code, status = "output-not-found", 404


class InputInvalid(HubError, ValueError, TypeError):
    """An input is missing, unexpected, or of the wrong dtype or shape; the detail says what was expected."""

    code, status = "input-invalid", 400


class ModuleBroken(HubError):
    """The module's graph, checkpoint or assets are damaged or incomplete."""

    code, status = "module-broken", 422


class ModuleUnsupported(HubError, NotImplementedError):
    """The module is whole, but is or asks for something that cannot be done here; the detail says what."""

    code, status = "module-unsupported", 422


class RunFailed(HubError, RuntimeError):
    """TensorFlow failed while it ran the module; the detail is TensorFlow's message."""

    code = "run-failed"


class Closed(HubError, RuntimeError):
    """The object was used after it had been closed."""

    code = "closed"


class Forked(HubError, RuntimeError):
    """TensorFlow's threads did not follow into this forked child, where a call would hang for ever."""

    code = "forked"


class ExportInvalid(HubError, ValueError):
    """This object cannot be exported or packed; the detail says why."""

    code, status = "export-invalid", 400


class PathExists(HubError, FileExistsError):
    """There is something at the path already, and it is not overwritten."""

    code, status = "path-exists", 409

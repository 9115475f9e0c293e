"""An installed tensorflow_hub that goes through hubd: ``hubclient.tfhub.install()``, and no other line changes.

Law: only ``http(s)://``, ``kaggle:`` and object stores' handles (``s3://``, ``gs://``, ``az://``) are taken over; paths
and what other resolvers know stay as they are. What fails, fails with hubclient's own error.
"""

from __future__ import annotations

from typing import Any

from hubclient.model_errors import TensorFlowMissing

_SCHEMES = ("http://", "https://", "kaggle:", "s3://", "gs://", "az://")


class _ThroughHubd:
    """An implementation for ``tensorflow_hub.registry.resolver``, as its ``resolver.Resolver`` describes them."""

    def is_supported(self, handle: object) -> bool:
        return isinstance(handle, str) and handle.lower().startswith(_SCHEMES)

    def __call__(self, handle: str) -> str:
        from hubclient.resolving import resolve

        return resolve(handle)


def install() -> None:
    """From now on, in this process, tensorflow_hub gets its modules through hubd: ``hub.load``, ``hub.resolve``,
    ``hub.KerasLayer`` and whatever else takes a handle. Installing again changes nothing.

    tensorflow_hub asks for a path and does not say when it is done with it, so modules stay leased until the process
    ends, as with `hubclient.resolve`. Raises `TensorFlowMissing` without tensorflow_hub.
    """
    register = _register()
    uninstall()
    register.add_implementation(_ThroughHubd())


def uninstall() -> None:
    """tensorflow_hub gets its modules by itself again. What has a path keeps it."""
    register = _register()
    # It can only forget all of its implementations by a call of its own.
    register._impls = [known for known in register._impls if not isinstance(known, _ThroughHubd)]


def _register() -> Any:
    """tensorflow_hub's resolvers, of which the newest that supports a handle answers."""
    try:
        from tensorflow_hub import registry
    except ModuleNotFoundError as error:
        if error.name not in ("tensorflow_hub", "tensorflow"):
            raise
        raise TensorFlowMissing(
            f"hubclient.tfhub puts hubd in front of tensorflow_hub, and there is no {error.name} here: "
            "pip install tensorflow_hub"
        ) from None
    return registry.resolver

"""Asking for what may be private: as anybody first, and where that is refused, with the user's own credential.

Law: nobody is shown a credential who would answer without one. So what is public stays so for the whole machine, and
a refusal keeps its code whatever becomes of the credential.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

from hubclient.contract.errors import (
    AccessDenied,
    ArchiveCorrupt,
    HandleForbidden,
    HubError,
    NotAModule,
    RequestInvalid,
    UpstreamDenied,
    UpstreamNotFound,
)

if TYPE_CHECKING:
    from hubclient.contract.credentials import Credential
    from hubclient.credentials import Found

T = TypeVar("T")

# What hosts answer to those whom they do not know: a refusal, silence on what there is, or a page to sign in.
_REFUSALS = (UpstreamDenied, UpstreamNotFound, ArchiveCorrupt, NotAModule)
_MAX_FAMILIES = 4096


class Showing:
    """Remembers what opened a module, and shows it at once when another version of that module is asked for."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._known: dict[str, Found] = {}

    def ask(self, handle: str, ask: Callable[[Credential | None], T]) -> T:
        """What `ask` answers, called without a credential or with one. Raises its errors."""
        family = _family(handle)
        known = self._known.get(family)
        try:
            return ask(known.credential if known is not None else None)
        except _REFUSALS as error:
            refused = error
        from hubclient import credentials  # 15 ms that nobody needs for what is public

        try:
            own = credentials.find(handle, self._environ)
        except RequestInvalid as fault:
            raise _saying(refused, str(fault)) from fault
        if own is None:
            raise refused
        if own == known:
            raise _saying(refused, _shown(own))
        try:
            answer = ask(own.credential)
        except (AccessDenied, HandleForbidden) as fault:
            raise _saying(refused, str(fault)) from fault
        except UpstreamDenied as denied:
            raise _saying(denied, _shown(own)) from denied
        if len(self._known) >= _MAX_FAMILIES:
            self._known.clear()
        self._known[family] = own
        return answer


def _family(handle: str) -> str:
    """What the versions of a module have in common. It names their host: ``https://HOST`` is all of itself."""
    return handle if handle.count("/") == 2 else handle.rpartition("/")[0]


def _shown(own: Found) -> str:
    return f"the credential of {own.source} was shown"


def _saying(error: HubError, more: str) -> HubError:
    return type(error)(f"{error.detail}; {more}")

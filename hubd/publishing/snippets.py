"""Code to copy from a module's page.

Law: each snippet runs as it stands where hubclient (or hubctl) is installed, and no name of a module can add to it:
a handle is a URL whose quotes, spaces and the like are percent-encoded.
"""

from __future__ import annotations

from typing import NamedTuple

_IMPORT = "import hubclient as hub\n\n"


class Snippet(NamedTuple):
    id: str  #: also names its tab in the stylesheet
    name: str
    code: str


def snippets(handle: str, *, digest: str | None, is_fine_tunable: bool | None) -> tuple[Snippet, ...]:
    """For the version that this handle names. `digest` is that of the archive, with "sha256:" before it."""
    trainable = ", trainable=True" if is_fine_tunable else ""
    demand = f"--digest {digest} " if digest else ""
    return (
        Snippet("load", "load", f'{_IMPORT}model = hub.load("{handle}")'),
        Snippet("module", "Module", f'{_IMPORT}module = hub.Module("{handle}"{trainable})'),
        Snippet("keras", "KerasLayer", f'{_IMPORT}layer = hub.KerasLayer("{handle}"{trainable})'),
        Snippet("get", "hubctl get", f"hubctl get {demand}{handle}"),
        Snippet("lock", "lock file", f"hubctl lock {handle} -o hub.lock"),
    )

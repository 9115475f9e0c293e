"""Lock files: which content each handle stands for, to be kept beside the program that uses the modules.

TOML, made by ``hubctl lock``. Law: the same modules give the same bytes, whoever writes them and whenever; and a file
that is not understood is refused as a whole.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from hubclient.contract.errors import HubError, RequestInvalid
from hubclient.contract.handles import canonical, key
from hubclient.contract.layout import is_digest

VERSION = 1
MAX_BYTES = 16 << 20

_PREFIX = "sha256:"
_HEAD = f"""\
# Modules and their content, as `hubctl lock` found it; `hubctl sync` fetches and checks them.
# Programs that run with HUBD_LOCK naming this file get these modules, and no others.
version = {VERSION}
"""


class Locked(NamedTuple):
    """What one handle stands for."""

    handle: str  # canonical
    digest: str  # hex sha256 of the archive
    content_digest: str  # of the files in it: the same for every archive of this content
    size_bytes: int  # of the unpacked module


def read(path: str) -> dict[str, Locked]:
    """The modules of a lock file, by key. Raises `RequestInvalid` for a file that is not there, or is none."""
    try:
        with open(path, "rb") as file:
            return parse(file.read(MAX_BYTES + 1))
    except FileNotFoundError:
        raise RequestInvalid(f"there is no lock file {path}: `hubctl lock HANDLE -o {path}` makes one") from None
    except OSError as error:
        raise RequestInvalid(f"the lock file {path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise RequestInvalid(f"{path} is no lock file: {error}") from error


def parse(data: bytes) -> dict[str, Locked]:
    """The modules, by key. Members that are not known are a later version's, and ignored. Raises `ValueError`."""
    if len(data) > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES} bytes")
    document = tomllib.loads(data.decode())
    if (version := document.get("version")) != VERSION:
        raise ValueError(f"its version is {version!r}, and this hubclient knows version {VERSION}")
    tables = document.get("module", [])
    if not isinstance(tables, list):
        raise ValueError("module is no array of tables")
    modules: dict[str, Locked] = {}
    for number, table in enumerate(tables, 1):
        # By its number: a handle may hold a secret, and the daemon logs what is wrong.
        try:
            locked = _module(table)
        except (ValueError, HubError) as error:
            raise ValueError(f"module, number {number}: {error}") from None
        if modules.setdefault(key(locked.handle), locked) is not locked:
            raise ValueError(f"module, number {number}: its handle is there twice")
    return modules


def dump(modules: Iterable[Locked]) -> bytes:
    """The file of these modules, sorted by handle."""
    tables = [
        f"\n[[module]]\n"
        f"handle = {_quoted(locked.handle)}\n"
        f'digest = "{_PREFIX}{locked.digest}"\n'
        f'content_digest = "{_PREFIX}{locked.content_digest}"\n'
        f"size_bytes = {locked.size_bytes}\n"
        for locked in sorted(modules)
    ]
    return (_HEAD + "".join(tables)).encode()


def _module(table: Any) -> Locked:
    """Raises `ValueError`, `HubError`."""
    if not isinstance(table, dict) or not isinstance(handle := table.get("handle"), str):
        raise ValueError("it has no handle")
    size_bytes = table.get("size_bytes")
    if type(size_bytes) is not int or size_bytes < 0:
        raise ValueError("its size_bytes is no size")
    return Locked(canonical(handle), _digest(table, "digest"), _digest(table, "content_digest"), size_bytes)


def _digest(table: Mapping[str, Any], name: str) -> str:
    text = table.get(name)
    digest = text.removeprefix(_PREFIX) if isinstance(text, str) else ""
    if not is_digest(digest):
        raise ValueError(f"its {name} is no {_PREFIX} and 64 lower-case hex digits")
    return digest


def _quoted(handle: str) -> str:
    """A TOML string: a canonical handle has neither backslashes nor control characters."""
    return '"' + handle.replace('"', '\\"') + '"'

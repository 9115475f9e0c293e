"""The user's own credentials: which one is for a handle's host, and where it was found.

Law: nothing is looked for before a host has refused a module; and a file that others can read, or could have written,
is refused with the remedy. Each is for one host and port: netrc's ``default`` is for none.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

from hubclient.contract import handles
from hubclient.contract.credentials import Credential, Type, authority, may_travel
from hubclient.contract.errors import RequestInvalid

_MAX_FILE_BYTES = 1 << 20
_KAGGLE_DOMAIN = "kaggle.com"


class Found(NamedTuple):
    """A credential, and what to call the place where it was."""

    credential: Credential
    source: str


def find(handle: str, environ: Mapping[str, str]) -> Found | None:
    """The user's credential for the host of a URL, None if there is none or it must not travel so.

    The first of: ``$XDG_CONFIG_HOME/hubclient/credentials.toml``; for kaggle.com and below Kaggle's own variables and
    files; ``$NETRC`` or ``~/.netrc``. Raises `RequestInvalid` for what was found and cannot be used.
    """
    plain = handles.canonical(handle)
    scheme, host = "https", handles.host(plain)
    netloc = host
    if not handles.is_kaggle(plain):
        scheme, netloc, *_ = urlsplit(plain)
    if not may_travel(scheme, host):
        return None
    home = environ.get("HOME") or os.path.expanduser("~")
    looks: list[Callable[[], Found | None]] = [lambda: _in_own_file(netloc, environ, home)]
    if netloc == _KAGGLE_DOMAIN or netloc.endswith("." + _KAGGLE_DOMAIN):
        looks.append(lambda: _of_kaggle(environ, home))
    looks.append(lambda: _in_netrc(netloc, environ.get("NETRC") or f"{home}/.netrc"))
    return next((found for look in looks if (found := look()) is not None), None)


def own_file(environ: Mapping[str, str], home: str) -> str:
    """Where hubclient's own credentials lie."""
    named = environ.get("XDG_CONFIG_HOME", "")
    return (named if os.path.isabs(named) else f"{home}/.config") + "/hubclient/credentials.toml"


def _in_own_file(netloc: str, environ: Mapping[str, str], home: str) -> Found | None:
    """``[[credential]]`` tables of ``host``, ``type`` and ``value``."""
    file = own_file(environ, home)
    if (text := _text(file)) is None:
        return None
    import tomllib

    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RequestInvalid(f"{file}: is no TOML: {error}") from None
    entries = document.pop("credential", [])
    if document or not (isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)):
        raise RequestInvalid(f"{file}: must consist of [[credential]] tables")
    for entry in entries:
        if sorted(entry) != ["host", "type", "value"] or not all(isinstance(value, str) for value in entry.values()):
            raise RequestInvalid(f"{file}: a [[credential]] has host, type and value, which are strings")
        try:
            host = authority(entry["host"])
        except ValueError as error:
            raise RequestInvalid(f"{file}: host: {error}") from None
        if host == netloc:
            return _found(entry["type"], entry["value"], file)
    return None


def _of_kaggle(environ: Mapping[str, str], home: str) -> Found | None:
    """What Kaggle's own clients read: a token, or a user with a key, from the environment before files."""
    if token := environ.get("KAGGLE_API_TOKEN"):
        return _found("bearer", token, "KAGGLE_API_TOKEN")
    user, key = environ.get("KAGGLE_USERNAME"), environ.get("KAGGLE_KEY")
    if user and key:
        return _found("basic", f"{user}:{key}", "KAGGLE_USERNAME and KAGGLE_KEY")
    directory = environ.get("KAGGLE_CONFIG_DIR") or f"{home}/.kaggle"
    if token := (_text(file := f"{directory}/access_token") or "").strip():
        return _found("bearer", token, file)
    if (text := _text(file := f"{directory}/kaggle.json")) is None:
        return None
    import json

    try:
        document: Any = json.loads(text)
        return _found("basic", f"{document['username']}:{document['key']}", file)
    except (ValueError, TypeError, KeyError, RecursionError):
        raise RequestInvalid(f"{file}: must be JSON with username and key") from None


def _in_netrc(netloc: str, file: str) -> Found | None:
    """``machine HOST login USER password PASSWORD``; a port other than 443 is written as HOST:PORT."""
    if not os.path.isabs(file):
        return None
    import netrc

    try:
        known = netrc.netrc(file).hosts.get(netloc)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise RequestInvalid(f"{file}: cannot be read: {error.strerror}") from None
    except netrc.NetrcParseError as error:  # its text may repeat a password
        raise RequestInvalid(f"{file}: cannot be understood near line {error.lineno}") from None
    except UnicodeDecodeError:
        raise RequestInvalid(f"{file}: is no text") from None
    if known is None or netloc == "default":
        return None
    _require_private(file, os.stat(file))
    user, _, password = known
    return _found("basic", f"{user}:{password}", file)


def _found(kind: str, value: str, source: str) -> Found:
    try:
        return Found(Credential(cast(Type, kind), value), source)
    except ValueError as error:  # it says nothing of the value
        raise RequestInvalid(f"{source}: {error}") from None


def _text(file: str) -> str | None:
    """What is in a file of the user's alone; None if there is no file. Raises `RequestInvalid`."""
    if not os.path.isabs(file):  # without a home it would be whatever lies in the directory where we happen to be
        return None
    try:
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(fd, "rb") as opened:
            _require_private(file, os.fstat(fd))
            data = opened.read(_MAX_FILE_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise RequestInvalid(f"{file}: cannot be read: {error.strerror}") from None
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise RequestInvalid(f"{file}: is no text") from None


def _require_private(file: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise RequestInvalid(f"{file}: is no file")
    if status.st_uid != os.geteuid():
        raise RequestInvalid(f"{file}: belongs to uid {status.st_uid}, and a credential's file must be your own")
    if status.st_mode & 0o077:
        raise RequestInvalid(
            f"{file}: others can read or write it (mode {stat.S_IMODE(status.st_mode):04o}): chmod 0600 {file}"
        )

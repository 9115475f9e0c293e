"""Handles that are module directories of the user's own: no cache, no daemon."""

from __future__ import annotations

import os
import stat
from urllib.parse import unquote

from hubclient.contract.errors import AccessDenied, HandleInvalid, NotAModule, NotFound, RequestInvalid

#: One of these at the root makes a directory a module.
MODULE_FILES = ("saved_model.pb", "saved_model.pbtxt", "tfhub_module.pb")

_FILE_SCHEME = "file://"


class NoSuchDirectory(NotFound, FileNotFoundError):
    """Also the builtin exception that tensorflow_hub raises, which ported code may expect."""


def module_directory(handle: str, digest: str | None = None) -> str:
    """The absolute path of the module directory that a path or a ``file://`` URL names.

    Raises `HandleInvalid`, `NoSuchDirectory`, `NotAModule`, `AccessDenied`, and `RequestInvalid` for a digest: a
    directory has no archive that it could be compared with.
    """
    path = _path(handle)
    if digest is not None:
        raise RequestInvalid(f"{path} is a directory, and a digest is an archive's: leave the digest out")
    try:
        if not stat.S_ISDIR(os.stat(path).st_mode):
            raise NotAModule(f"{path} is a file: a module is a directory")
        if not any(os.path.exists(os.path.join(path, name)) for name in MODULE_FILES):
            raise NotAModule(
                f"{path} holds no module: there is no {', '.join(MODULE_FILES[:-1])} or {MODULE_FILES[-1]}"
            )
        os.listdir(path)
    except (FileNotFoundError, NotADirectoryError):
        raise NoSuchDirectory(
            f"there is no directory {path} (the handle of a published module starts with https://, s3:// or kaggle:)"
        ) from None
    except OSError as error:
        raise AccessDenied(f"cannot read {path}: {error.strerror}") from error
    return path


def _path(handle: str) -> str:
    if not handle or "\0" in handle:
        raise HandleInvalid("the handle is empty" if not handle else "the handle contains a NUL character")
    if handle[: len(_FILE_SCHEME)].lower() != _FILE_SCHEME:
        return os.path.abspath(os.path.expanduser(handle))
    host, slash, rest = handle[len(_FILE_SCHEME) :].partition("/")
    if host not in ("", "localhost") or not slash:
        raise HandleInvalid("a file:// handle names a directory of this machine: file:///path/to/module")
    path = unquote("/" + rest)
    if "\0" in path:
        raise HandleInvalid("the handle contains a NUL character")
    return os.path.abspath(path)

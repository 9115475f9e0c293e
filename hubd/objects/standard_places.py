"""Where the providers' own programs find a user's credentials. Only a user's own daemon looks there.

Law: what serves several users never asks this module: with the machine's own role, each of them could read whatever
that role may.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from functools import partial

from hubd.objects.keys import MAX_FILE_BYTES, AwsKeys, Keys, aws_keys, azure_key, azure_sas, google_key
from hubd.secret_files import SecretFile

log = logging.getLogger(__name__)

# What obstore and its HTTP library would take from the environment by themselves.
_PREFIXES = ("AWS_", "AZURE_", "GOOGLE_")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
_OTHERS = (  # a file with Google's key, and where roles are asked for
    "SERVICE_ACCOUNT",
    "GCE_METADATA_HOST",
    "GCE_METADATA_IP",
    "GCE_METADATA_ROOT",
    "IDENTITY_ENDPOINT",
    "IDENTITY_HEADER",
)


def take(environ: dict[str, str] | os._Environ[str]) -> dict[str, str]:
    """All of the environment; what an object store's library would heed is removed from it.

    To be called before there are threads: another one may be reading the environment.
    """
    before = dict(environ)
    for name in before:
        if name.startswith(_PREFIXES) or name in _OTHERS or name.upper() in _PROXIES:
            del environ[name]
    return before


class StandardPlaces:
    """Of the user with this environment."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._home = environ.get("HOME") or os.path.expanduser("~")
        self._files: dict[str, SecretFile[Keys]] = {}
        self._told: set[str] = set()

    def keys(self, scheme: str, account: str = "") -> Keys | None:
        """What is there for ``s3``, ``gs`` or ``az``. A file that cannot be used is none, and the log says so.

        `account`: of Azure. Where the user names one, what is there is for no other.
        """
        if account and self.azure_account not in (None, account):
            return None
        return {"s3": self._aws, "gs": self._google, "az": self._azure}[scheme]()

    @property
    def azure_account(self) -> str | None:
        get = self._environ.get
        return get("AZURE_STORAGE_ACCOUNT_NAME") or get("AZURE_STORAGE_ACCOUNT") or None

    def _aws(self) -> Keys | None:
        get = self._environ.get
        if (key_id := get("AWS_ACCESS_KEY_ID")) and (secret := get("AWS_SECRET_ACCESS_KEY")):
            return AwsKeys(key_id, secret, get("AWS_SESSION_TOKEN") or None)
        file = get("AWS_SHARED_CREDENTIALS_FILE") or f"{self._home}/.aws/credentials"
        return self._of_file(file, "s3://", partial(aws_keys, profile=get("AWS_PROFILE") or "default"))

    def _google(self) -> Keys | None:
        usual = f"{self._home}/.config/gcloud/application_default_credentials.json"
        return self._of_file(self._environ.get("GOOGLE_APPLICATION_CREDENTIALS") or usual, "gs://", google_key)

    def _azure(self) -> Keys | None:
        get = self._environ.get
        try:
            if key := get("AZURE_STORAGE_ACCOUNT_KEY") or get("AZURE_STORAGE_KEY"):
                return azure_key(os.fsencode(key))
            if sas := get("AZURE_STORAGE_SAS_TOKEN") or get("AZURE_STORAGE_SAS_KEY"):
                return azure_sas(os.fsencode(sas))
        except ValueError as error:
            self._tell(f"there is no credential for az://: a variable AZURE_STORAGE_... {error}")
        return None

    def _of_file(self, path: str, whose: str, parse: Callable[[bytes], Keys]) -> Keys | None:
        if (file := self._files.get(path)) is None:
            if not os.path.lexists(path):
                return None
            try:
                file = self._files[path] = SecretFile(path, whose, parse, max_bytes=MAX_FILE_BYTES)
            except ValueError as error:
                self._tell(f"there is no credential for {whose}: {error}")
                return None
        return file.now()

    def _tell(self, what: str) -> None:
        """Once: it is met anew by each request, and a directory takes one for each of its files."""
        if what not in self._told:
            self._told.add(what)
            log.warning("%s", what)

"""Which certificates are trusted: those of the system, and those of ``network.ca_bundle``.

Law: verification is off for a host that the configuration names for it, and for nobody else; TLS is 1.2 at least.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Iterable

from hubd.config import ConfigError
from hubd.failures import Hopeless

log = logging.getLogger(__name__)

# Where distributions keep their certificates, for a Python whose OpenSSL was built to look elsewhere.
_USUAL_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # Fedora
    "/etc/ssl/cert.pem",  # Alpine
    "/etc/ssl/ca-bundle.pem",  # SUSE
)
# X509_V_ERR_* of OpenSSL's x509_vfy.h
_NOT_YET_VALID, _EXPIRED = 9, 10
_UNKNOWN_ISSUER = frozenset({2, 18, 19, 20, 21, 27, 28})
_OTHER_NAME = frozenset({62, 64})


class Trust:
    """What connections to hosts are verified with; read once.

    Raises `ConfigError` when `ca_bundle` is no file of certificates.
    """

    def __init__(self, ca_bundle: str | None = None, unverified: Iterable[str] = ()) -> None:
        self._unverified = frozenset(unverified)
        self._verifying = _context()
        self._has_system = False
        if ca_bundle is not None:
            try:
                self._verifying.load_verify_locations(ca_bundle)
            except ssl.SSLError:
                raise ConfigError(f"network.ca_bundle: {ca_bundle} holds no certificates in PEM format") from None
            except OSError as error:
                raise ConfigError(f"network.ca_bundle: {ca_bundle} cannot be read: {error.strerror}") from None
        self._trusting = _context()
        self._trusting.check_hostname = False
        self._trusting.verify_mode = ssl.CERT_NONE

    def verifies(self, host: str) -> bool:
        """Whether who answers for this host (lower case, ASCII) is surely that host."""
        return host not in self._unverified

    def context(self, host: str) -> ssl.SSLContext:
        """For a connection to this host (lower case, ASCII)."""
        if not self.verifies(host):
            return self._trusting
        if not self._has_system:
            # At the first connection that needs them: they take 30 ms, and the daemon is to be ready at once.
            self._has_system = True
            _load_system(self._verifying)
        return self._verifying


def untrusted(error: Exception, host: str) -> Hopeless:
    """The error of a host whose certificate is not accepted, with the remedy."""
    code = getattr(error, "verify_code", 0)
    if code in _UNKNOWN_ISSUER:
        return Hopeless(
            f"{host}: its certificate is of an issuer that is not trusted here; network.ca_bundle can name a file with "
            "that issuer's certificate"
        )
    if code in _OTHER_NAME:
        return Hopeless(f"{host}: its certificate is for another host")
    if code in (_EXPIRED, _NOT_YET_VALID):
        return Hopeless(f"{host}: its certificate {'has expired' if code == _EXPIRED else 'is not valid yet'}")
    return Hopeless(f"{host}: its certificate is not accepted ({getattr(error, 'verify_message', 'no reason given')})")


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(("http/1.1",))
    return context


def _load_system(context: ssl.SSLContext) -> None:
    paths = ssl.get_default_verify_paths()  # of those, only what is there
    if paths.cafile is not None or (paths.capath is not None and os.listdir(paths.capath)):
        context.set_default_verify_paths()
        return
    for file in _USUAL_FILES:
        if os.path.isfile(file):
            context.load_verify_locations(file)
            return
    log.warning("no certificates of the system are found: only network.ca_bundle is trusted")

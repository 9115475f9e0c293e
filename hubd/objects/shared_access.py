"""URLs by which one of Azure's blobs may be read or removed for a while: a service SAS
(https://learn.microsoft.com/rest/api/storageservices/create-service-sas).

Law: what is signed is the blob's name itself. obstore signs it as it stands in a URL, which Azure refuses wherever
that differs: of a space, say, or a letter beyond ASCII.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import datetime
from typing import Literal
from urllib.parse import urlencode

VERSION = "2021-12-02"  #: of the protocol
_A_BLOB = "b"
_PERMISSIONS = {"GET": "r", "DELETE": "d"}


def query(key: str, blob: str, method: Literal["GET", "DELETE"], expires_at: datetime) -> str:
    """What stands behind the URL of a blob ``account/container/name``. `key`: the account's, in base64; `expires_at`
    is in UTC.
    """
    permission, until = _PERMISSIONS[method], f"{expires_at:%Y-%m-%dT%H:%M:%SZ}"
    # In their order; none of what is left out is stated in the query.
    start = policy = addresses = protocol = snapshot = encryption = ""
    headers = ("",) * 5
    what = (permission, start, until, f"/blob/{blob}")
    lines = (*what, policy, addresses, protocol, VERSION, _A_BLOB, snapshot, encryption, *headers)
    signature = hmac.digest(base64.b64decode(key), "\n".join(lines).encode(), hashlib.sha256)
    stated = {"sv": VERSION, "sr": _A_BLOB, "sp": permission, "se": until}
    return urlencode({**stated, "sig": base64.b64encode(signature).decode()})

"""What a machine finds out of its fleet's store before the first fetch needs it.

Law: it is one request, and writes nothing: machines that start together are many. Whether the store may be written to,
the first claim will tell.
"""

from __future__ import annotations

from random import Random

from hubclient.contract.errors import HubError
from hubd.failures import Busy
from hubd.fleet.records import claim_path
from hubd.fleet.remote import Remote


async def probe(remote: Remote, random: Random) -> None:
    """Reads what is not there. Raises nothing."""
    try:
        await remote.read(claim_path(f"{random.getrandbits(256):064x}"))
    except Busy:
        return  # it lives; who needs it is more patient
    except HubError as error:
        remote.gave_up(error)

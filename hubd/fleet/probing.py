"""What a machine finds out of its fleet's store before the first fetch needs it.

Law: it leaves nothing there, and what it finds is known to all who ask the store later.
"""

from __future__ import annotations

from random import Random

from hubclient.contract.errors import HubError
from hubd.fleet.claims import Claim
from hubd.fleet.records import claim_path
from hubd.fleet.remote import Remote


async def probe(remote: Remote, random: Random, *, writes: bool) -> None:
    """Reads what is not there, and if it `writes`, makes a claim to no module and removes it. Raises nothing."""
    path = claim_path(f"{random.getrandbits(256):064x}")
    try:
        await remote.read(path)
        if writes:
            await remote.create(path, Claim(holder=f"{random.getrandbits(64):016x}").body())
            await remote.remove(path)
    except HubError as error:
        remote.gave_up(error)

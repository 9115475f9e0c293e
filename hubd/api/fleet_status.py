"""How the fleet's store is, as the fleet's route and the status tell it. Reads; changes nothing."""

from __future__ import annotations

from hubd.api import messages
from hubd.fetching.means import Means


def fleet_message(means: Means) -> messages.Fleet:
    """As it is known now: nothing is asked."""
    fleet, terms = means.fleet, means.settings.fleet
    figures = fleet.figures if fleet is not None else None
    status = fleet.tier.status if fleet is not None and fleet.tier is not None else None
    return messages.Fleet(
        store=terms.store,
        mode="read-only" if status is not None and status.is_read_only else terms.mode,
        state=status.state if status is not None else "off",
        trouble=status.trouble if status is not None else None,
        retry_in_seconds=(status.retry_in_seconds or None) if status is not None else None,
        uploads=[
            messages.FleetUpload(
                handle=upload.handle, key=upload.key, sent_bytes=upload.sent_bytes, total_bytes=upload.total_bytes
            )
            for upload in (fleet.uploads.under_way() if fleet is not None else ())
        ],
        found=figures.found if figures is not None else 0,
        waited=figures.waited if figures is not None else 0,
        claimed=figures.claimed if figures is not None else 0,
        alone=figures.alone if figures is not None else 0,
        uploaded=figures.uploaded if figures is not None else 0,
        downloaded_bytes=means.counters.received_by_tier["fleet"],
        uploaded_bytes=figures.uploaded_bytes if figures is not None else 0,
    )

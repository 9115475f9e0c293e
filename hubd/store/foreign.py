"""What is in ``tfhub/`` and not the store's: tensorflow_hub downloads there what is not cached, if it may write there.

Law: it is named, and never touched.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from hubd.store.disk import storing
from hubd.store.layout import StoreLayout, digest_of_tfhub_target

_NAMED = 5


def warning(layout: StoreLayout) -> str | None:
    """A sentence that counts the foreign entries, and names a few; None when there is none. Raises `Internal`."""
    names = sorted(_foreign(layout))
    if not names:
        return None
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return (
        f"{layout.tfhub} holds what is not hubd's and is left alone ({len(names)} in all): "
        f"{', '.join(names[:_NAMED])}{more}; tensorflow_hub leaves such when it downloads a module by itself"
    )


def _foreign(layout: StoreLayout) -> Iterator[str]:
    with storing("listing the cache"), os.scandir(layout.tfhub) as entries:
        for entry in entries:
            if not (entry.is_symlink() and _is_ours(entry.path)):
                yield entry.name


def _is_ours(link: str) -> bool:
    try:
        return digest_of_tfhub_target(os.readlink(link)) is not None
    except FileNotFoundError:  # it has just been removed
        return True

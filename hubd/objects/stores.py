"""All buckets: which of the settings hold for which.

Law: of entries that match, the longest decides, by whole segments of the path.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from hubd.config import ConfigError, NetworkSettings
from hubd.config_stores import CredentialSettings, ObjectStoreSettings, longest
from hubd.objects import endpoints
from hubd.objects.endpoints import Place
from hubd.objects.keys import MAX_FILE_BYTES, Keys, parser
from hubd.objects.standard_places import StandardPlaces
from hubd.objects.store import Network, ObjectStore
from hubd.objects.urls import ObjectUrl
from hubd.secret_files import SecretFile

_MAX_REMEMBERED = 64


class Stores:
    """All buckets, by the settings of one time.

    `network` says what may be reached. `standard`: where a user's own daemon looks for what no entry is for; None in a
    daemon for several users. Raises `ConfigError` for a file of credentials that cannot be used.
    """

    def __init__(
        self,
        object_stores: Sequence[ObjectStoreSettings],
        credentials: Iterable[CredentialSettings],
        network: Network,
        terms: NetworkSettings,
        standard: StandardPlaces | None = None,
    ) -> None:
        self._entries = object_stores
        self._network = network
        self._terms = terms
        self._standard = standard
        self._files: list[tuple[str, SecretFile[Keys]]] = []
        self._known: OrderedDict[tuple[Place, str | None], ObjectStore] = OrderedDict()
        for entry in credentials:
            if entry.store is None:
                continue
            try:
                file = SecretFile(entry.file, entry.store, parser(entry.type), max_bytes=MAX_FILE_BYTES)
            except ValueError as error:
                raise ConfigError(f"[[credential]] for {entry.store}: {error}") from None
            self._files.append((entry.store, file))

    def of(self, url: ObjectUrl) -> ObjectStore:
        """The bucket of this URL, with what is shown for this path in it.

        Raises `HandleForbidden` for one that there is no way to.
        """
        place = endpoints.place(url, self._entries, self._standard.azure_account if self._standard else None)
        found = longest(((store, (store, file)) for store, file in self._files), str(url))
        store, file = found if found is not None else (None, None)
        known = self._known.get((place, store))
        if known is None:
            known = ObjectStore(place, self._network, self._terms, store, file, self._standard)
            self._known[place, store] = known
            if len(self._known) > _MAX_REMEMBERED:
                self._known.popitem(last=False)
        self._known.move_to_end((place, store))
        return known

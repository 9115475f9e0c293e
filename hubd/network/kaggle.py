"""Kaggle's side of a handle ``kaggle:OWNER/MODEL/FRAMEWORK/VARIATION[/VERSION]``: where its archive is.

Law: of what Kaggle answers, only a whole number is believed; every URL is made from the handle and the settings.
(The API that Kaggle's own client uses: https://github.com/Kaggle/kagglehub.)
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

from yarl import URL

from hubclient.contract import handles
from hubclient.contract.errors import HubError, UpstreamTimeout
from hubd.failures import Hopeless
from hubd.network.connections import Claim
from hubd.network.credentials import OwnCredential
from hubd.network.session import Session, chunks

_MAX_ANSWER_BYTES = 1 << 20
_MAX_ANSWER_SECONDS = 30.0
_MAX_VERSION = 10**9


class Kaggle:
    """The API at this base URL, asked in this session."""

    def __init__(self, session: Session, url: str) -> None:
        self._session = session
        self._api = f"{url}/api/v1/models/"
        self.home = URL(url)

    async def archive(
        self, handle: str, claim: Claim, own: OwnCredential | None, on_shown: Callable[[str], None]
    ) -> URL:
        """The URL of the archive of a canonical handle; that of the latest version, if it names none.

        `on_shown` is told of the machine's credential, as by the session.
        Raises upstream-*, handle-forbidden and address-forbidden errors.
        """
        model = self._api + handle.partition(":")[2]
        if not handles.is_immutable(handle):
            model += f"/{await self._latest(URL(f'{model}/get'), claim, own, on_shown)}"
        return URL(f"{model}/download")

    async def _latest(self, url: URL, claim: Claim, own: OwnCredential | None, on_shown: Callable[[str], None]) -> int:
        headers = {"Accept": "application/json"}
        async with self._session.following(url, headers, claim, own, on_shown=on_shown) as response:
            host, answer = response.url.raw_host or "", b""
            try:
                async with asyncio.timeout(_MAX_ANSWER_SECONDS):  # a drip is no silence
                    async for chunk in chunks(response, host):
                        answer += chunk
                        if len(answer) > _MAX_ANSWER_BYTES:
                            raise _no_version(host)
            except TimeoutError:
                raise UpstreamTimeout(f"{host} took too long to tell the latest version of this model") from None
        try:
            version = json.loads(answer)["versionNumber"]
        except (ValueError, TypeError, KeyError, RecursionError):
            version = None
        if type(version) is not int or not 0 < version < _MAX_VERSION:
            raise _no_version(host)
        return version


def _no_version(host: str) -> HubError:
    return Hopeless(f"{host} did not tell the latest version of this model: name one in the handle")

"""The origin's side of a fetch: the tf-hub protocol over HTTP.

A handle's URL with ``tf-hub-format=compressed`` answers the module as a tar.gz, directly or by redirect
(https://www.tensorflow.org/hub/hosting). Law: what an answer is worth is decided here, by its status and its headers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from yarl import URL

from hubclient.contract import handles
from hubclient.contract.errors import HandleInvalid, UpstreamUnavailable
from hubd.network.conditions import ContentRange, RangeRefused, Resume, Validators, strong
from hubd.network.credentials import Credential, OwnCredential
from hubd.network.session import Session, chunks


@dataclass(frozen=True)
class Delivery:
    """An answer with an archive in its body; or, when `body` is None, the word that nothing changed (304).

    The body is what comes from byte `from_bytes` on; `total_bytes` is of the whole archive. With the `strong`
    validators the rest can be asked for, should the body end early.
    """

    body: AsyncIterator[bytes] | None
    total_bytes: int | None
    validators: Validators
    final_host: str
    from_bytes: int = 0
    strong: Validators | None = None
    url: URL | None = None  # at the end of all redirects


@dataclass(frozen=True)
class ArchiveRequest:
    """What is wanted of an origin: the archive of a canonical handle.

    With `known` validators a 304 is an answer too. With `resume` the rest of it is, if it is still the same; else it
    comes from its first byte. The `credential` is the caller's own, for the handle's host.
    """

    handle: str
    known: Validators | None = None
    resume: Resume | None = None
    credential: Credential | None = None

    def headers(self) -> dict[str, str]:
        return {**(self.known.headers() if self.known else {}), **(self.resume.headers() if self.resume else {})}


class HttpSource:
    """Origins over HTTP, asked in this session."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @asynccontextmanager
    async def open(self, request: ArchiveRequest) -> AsyncIterator[Delivery]:
        """The answer to the request, for the block.

        Raises upstream-*, handle-forbidden and address-forbidden errors, also out of the block while the body is read,
        and `RangeRefused` for an answer to `resume` that is neither the rest nor the whole.
        """
        known, resume, url = request.known, request.resume, _asked(request.handle)
        own = OwnCredential(request.credential, url) if request.credential is not None else None
        async with self._session.following(url, request.headers(), own) as response:
            validators = Validators.stated(response.headers)
            host, end = response.url.raw_host or "", response.url
            if response.status == 304 and known is not None:
                yield Delivery(None, None, validators.or_else(known), host, url=end)
            elif response.status == 304:
                raise UpstreamUnavailable(f"{host} answered 304 to a request without conditions")
            elif response.status == 416:
                raise RangeRefused("that there is no such range")
            elif response.status == 206 and resume is not None:
                content_range = ContentRange.parse(response.headers.get("Content-Range"))
                total_bytes = resume.total_of(content_range, validators)
                merged, body = validators.or_else(resume.validators), chunks(response, host)
                yield Delivery(body, total_bytes, merged, host, resume.from_bytes, resume.validators, end)
            else:
                body, again = chunks(response, host), strong(validators, response.headers)
                yield Delivery(body, response.content_length, validators, host, strong=again, url=end)


def _asked(handle: str) -> URL:
    try:
        url = URL(handles.request_url(handle), encoded=True)
        _ = url.raw_host, url.port  # parsed only now
    except ValueError:
        raise HandleInvalid("the handle is no URL that can be asked for") from None
    return url

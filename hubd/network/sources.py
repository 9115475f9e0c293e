"""The origin's side of a fetch: the tf-hub protocol over HTTP.

A handle's URL with ``tf-hub-format=compressed`` answers the module as a tar.gz, directly or by redirect
(https://www.tensorflow.org/hub/hosting). Law: what an answer is worth is decided here, by its status and its headers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import aiohttp
from yarl import URL

from hubclient.contract import handles
from hubclient.contract.errors import HandleInvalid, UpstreamDenied, UpstreamNotFound
from hubd.network.conditions import ContentRange, RangeRefused, Resume, Validators, strong
from hubd.network.connections import Claim, Place
from hubd.network.failures import Hopeless
from hubd.network.session import Session, chunks

#: Bytes ``[start, end)`` of an archive (None: to its end), asked for when the block is entered, to be read within it.
Part = Callable[[int, int | None], AbstractAsyncContextManager[AsyncIterator[bytes]]]


@dataclass(frozen=True)
class Delivery:
    """An answer with an archive in its body; or, when `body` is None, the word that nothing changed (304).

    The body is what comes from byte `from_bytes` on; `total_bytes` is of the whole archive. `close` gives up the rest
    of the body. With `strong` validators any `part` of the archive can be asked for too; that raises upstream-* errors,
    and `RangeRefused` for an answer that is no such part of this version of it. `extra` is the right to one more
    connection, if there is one now. `is_local`: nothing of it comes over a network.
    """

    body: AsyncIterator[bytes] | None
    total_bytes: int | None
    validators: Validators
    final_host: str
    from_bytes: int = 0
    strong: Validators | None = None
    part: Part | None = None
    close: Callable[[], None] = lambda: None
    extra: Callable[[], Place | None] = lambda: None
    is_local: bool = False


@dataclass(frozen=True)
class ArchiveRequest:
    """What is wanted of an origin: the archive of a canonical handle.

    With `known` validators a 304 is an answer too. With `resume` the rest of it is, if it is still the same; else it
    comes from its first byte. `is_urgent`: whether a client waits for it, at this moment. `mirror`: where a configured
    mirror has it, which is asked in place of the handle.
    """

    handle: str
    known: Validators | None = None
    resume: Resume | None = None
    is_urgent: Callable[[], bool] = lambda: True
    mirror: str | None = None

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
        known, resume = request.known, request.resume
        asked = _asked(request.mirror or request.handle)
        named = asked if request.mirror is not None else None
        async with (
            Claim(self._session.connections, request.is_urgent) as claim,
            self._session.following(asked, request.headers(), claim, named=named) as response,
        ):
            validators: Validators = Validators.stated(response.headers)
            again: Validators | None
            host = response.url.raw_host or ""
            if response.status == 304 and known is not None:
                yield Delivery(None, None, validators.or_else(known), host)
                return
            if response.status == 304:
                raise Hopeless(f"{host} answered 304 to a request without conditions")
            if resume is not None and response.status != 200:
                total_bytes = _checked(response, resume)
                validators, again = validators.or_else(resume.validators), resume.validators
            else:
                total_bytes, again, resume = response.content_length, strong(validators, response.headers), None
            place = _Found(self._session, asked, named, response.url, total_bytes, again) if again is not None else None
            yield Delivery(
                chunks(response, host),
                total_bytes,
                validators,
                host,
                resume.from_bytes if resume is not None else 0,
                again,
                place.part if place is not None else None,
                response.close,
                claim.extra,
            )


@dataclass
class _Found:
    """Where one version of an archive was found, to ask for parts of it."""

    session: Session
    asked: URL
    named: URL | None
    found: URL
    total_bytes: int | None
    validators: Validators

    @asynccontextmanager
    async def part(self, start: int, end: int | None) -> AsyncIterator[AsyncIterator[bytes]]:
        """See `Delivery`."""
        resume = Resume(start, self.total_bytes, self.validators, end)
        async with AsyncExitStack() as stack:
            try:
                response = await stack.enter_async_context(self._follow(self.found, resume))
            except (UpstreamDenied, UpstreamNotFound):
                if self.found == self.asked:
                    raise
                # Redirects lead to URLs that are signed for a while: ask for another one.
                response = await stack.enter_async_context(self._follow(self.asked, resume))
                self.found = response.url
            if response.status == 200:
                raise RangeRefused("from its first byte")
            self.total_bytes = _checked(response, resume)
            yield chunks(response, response.url.raw_host or "")

    def _follow(self, url: URL, resume: Resume) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return self.session.following(url, resume.headers(), named=self.named)


def _checked(response: aiohttp.ClientResponse, resume: Resume) -> int | None:
    """The size of the archive (None: unknown) by an answer with the bytes that were asked for; else `RangeRefused`."""
    if response.status != 206:
        raise RangeRefused("that there is no such range" if response.status == 416 else "without bytes")
    content_range = ContentRange.parse(response.headers.get("Content-Range"))
    return resume.total_of(content_range, Validators.stated(response.headers))


def _asked(handle: str) -> URL:
    try:
        url = URL(handles.request_url(handle), encoded=True)
        _ = url.raw_host, url.port  # parsed only now
    except ValueError:
        raise HandleInvalid("the handle is no URL that can be asked for") from None
    return url

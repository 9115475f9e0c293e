"""The origin's side of a fetch: the tf-hub protocol over HTTP.

A handle's URL with ``tf-hub-format=compressed`` answers the module as a tar.gz, directly or by redirect
(https://www.tensorflow.org/hub/hosting; the other format is the business of `formats`); a ``kaggle:`` handle stands for
a URL of Kaggle's that does the same.
Law: what an answer is worth is decided here, by its status and its headers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import aiohttp
from yarl import URL

from hubclient.contract import handles
from hubclient.contract.errors import HandleInvalid, UpstreamDenied, UpstreamNotFound, UpstreamUnavailable
from hubd.config import KAGGLE_URL
from hubd.failures import Hopeless
from hubd.network.conditions import ContentRange, RangeRefused, Resume, Validators, strong
from hubd.network.connections import Claim, Place
from hubd.network.credentials import Credential, OwnCredential
from hubd.network.digests import Expected
from hubd.network.kaggle import Kaggle
from hubd.network.session import Session, chunks
from hubd.network.waiting_line import User, nobody

#: Bytes ``[start, end)`` of an archive (None: to its end), asked for when the block is entered, to be read within it.
Part = Callable[[int, int | None], AbstractAsyncContextManager[AsyncIterator[bytes]]]
#: The answer to a request for a part, at the place where the whole was found, or where it is by now.
Follow = Callable[[Resume], AbstractAsyncContextManager[aiohttp.ClientResponse]]


#: Where a module comes from: from the nearest place to the farthest.
TierName = Literal["local", "fleet", "mirror", "origin"]


@dataclass(frozen=True)
class Delivery:
    """An answer with an archive in its body; or, when `body` is None, the word that nothing changed (304).

    The body is what comes from byte `from_bytes` on; `total_bytes` is of the whole archive. `close` gives up the rest
    of the body. With `strong` validators any `part` of the archive can be asked for too; that raises upstream-* errors,
    and `RangeRefused` for an answer that is no such part of this version of it. `extra` is the right to one more
    connection, if there is one now. `is_local`: nothing of it comes over a network. `is_tree`: it is a directory whose
    files come as one tar, not gzipped, so that its digest is that of its content. `is_credentialed`: the machine's
    credential was shown for it. `age_seconds`: so long ago the origin sent it, or confirmed it.
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
    expected: Expected = field(default_factory=Expected)  # of the whole archive
    url: URL | None = None  # at the end of all redirects
    is_local: bool = False
    is_tree: bool = False
    tier: TierName = "origin"
    is_credentialed: bool = False
    age_seconds: float = 0.0


@dataclass(frozen=True)
class ArchiveRequest:
    """What is wanted of an origin: the archive of a canonical handle.

    With `known` validators a 304 is an answer too. With `resume` the rest of it is, if it is still the same; else it
    comes from its first byte. `is_urgent`: whether a client waits for it, at this moment, and `users`: who waits.
    The `credential` is the caller's own, for the handle's host. `mirror`: where a configured mirror has it, which is
    asked in place of the handle.
    """

    handle: str
    known: Validators | None = None
    resume: Resume | None = None
    is_urgent: Callable[[], bool] = lambda: True
    credential: Credential | None = None
    mirror: str | None = None
    users: Callable[[], Collection[User]] = nobody

    def headers(self) -> dict[str, str]:
        return {**(self.known.headers() if self.known else {}), **(self.resume.headers() if self.resume else {})}


class Source(Protocol):
    """Where modules come from."""

    def open(self, request: ArchiveRequest) -> AbstractAsyncContextManager[Delivery]:
        """See `HttpSource.open`."""


class HttpSource:
    """Origins over HTTP, asked for archives in this session. `kaggle_url` is where Kaggle's handles lead."""

    def __init__(self, session: Session, kaggle_url: str = KAGGLE_URL) -> None:
        self._session = session
        self._kaggle = Kaggle(session, kaggle_url)

    @asynccontextmanager
    async def open(self, request: ArchiveRequest) -> AsyncIterator[Delivery]:
        """The answer to the request, for the block.

        Raises upstream-*, handle-forbidden and address-forbidden errors, also out of the block while the body is read,
        and `RangeRefused` for an answer to `resume` that is neither the rest nor the whole.
        """
        home = self._kaggle.home if handles.is_kaggle(request.handle) else asked_url(request.handle)
        own = OwnCredential(request.credential, home) if request.credential is not None else None
        named = asked_url(request.mirror) if request.mirror is not None else None
        shown: list[str] = []
        async with (
            Claim(self._session.connections, request.is_urgent, request.users) as claim,
            self._session.following(
                asked := named or await self._url(request.handle, home, claim, own, shown.append),
                request.headers(),
                claim,
                own,
                named=named,
                on_shown=shown.append,
            ) as response,
        ):
            sent = _sent_along(own, response)
            found = _Found(self._session, asked, named, own, response.url, sent)
            delivery = delivered(response, request, claim, found.follow)
            yield replace(delivery, is_credentialed=True) if shown else delivery

    async def _url(
        self, handle: str, home: URL, claim: Claim, own: OwnCredential | None, on_shown: Callable[[str], None]
    ) -> URL:
        return await self._kaggle.archive(handle, claim, own, on_shown) if handles.is_kaggle(handle) else home


@dataclass
class _Found:
    """Where one version of an archive was found, to ask for parts of it; and what of the caller's is sent there."""

    session: Session
    asked: URL
    named: URL | None
    own: OwnCredential | None
    found: URL
    own_there: OwnCredential | None

    @asynccontextmanager
    async def follow(self, resume: Resume) -> AsyncIterator[aiohttp.ClientResponse]:
        """See `Follow`."""
        async with AsyncExitStack() as stack:
            try:
                response = await stack.enter_async_context(self._follow(self.found, resume, self.own_there))
            except (UpstreamDenied, UpstreamNotFound, Hopeless):
                if self.found == self.asked:
                    raise
                # Redirects lead to URLs that are signed for a while: ask for another one. That one has expired is
                # told with 403, 410, or as by Google's storage with 400.
                response = await stack.enter_async_context(self._follow(self.asked, resume, self.own))
                self.found, self.own_there = response.url, _sent_along(self.own, response)
            yield response

    def _follow(
        self, url: URL, resume: Resume, own: OwnCredential | None
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return self.session.following(url, resume.headers(), own=own, named=self.named)


def _sent_along(own: OwnCredential | None, response: aiohttp.ClientResponse) -> OwnCredential | None:
    """The caller's credential if the request that was answered had it: after redirects away and back it did not."""
    sent = response.request_info.headers.get("Authorization")
    return own if own is not None and sent == own.credential.header() else None


def delivered(response: aiohttp.ClientResponse, request: ArchiveRequest, claim: Claim, follow: Follow) -> Delivery:
    """What an answer to the request is worth, while it is open: of status 200 or 304, or to one with Range 206 or 416.

    Raises `RangeRefused` for an answer to `resume` that is neither the rest nor the whole.
    """
    known, resume = request.known, request.resume
    validators: Validators = Validators.stated(response.headers)
    again: Validators | None
    host = response.url.raw_host or ""
    if response.status == 304 and known is not None:
        return Delivery(None, None, validators.or_else(known), host, url=response.url)
    if response.status == 304:
        raise Hopeless(f"{host} answered 304 to a request without conditions")
    if resume is not None and response.status != 200:
        total_bytes = _checked(response, resume)
        validators, again = validators.or_else(resume.validators), resume.validators
    else:
        total_bytes, again, resume = response.content_length, strong(validators, response.headers), None
    return Delivery(
        chunks(response, host),
        total_bytes,
        validators,
        host,
        resume.from_bytes if resume is not None else 0,
        again,
        _Parts(follow, total_bytes, again).part if again is not None else None,
        response.close,
        claim.extra,
        Expected.stated(response.headers, is_whole=resume is None),
        response.url,
    )


@dataclass
class _Parts:
    """Parts of one version of an archive."""

    follow: Follow
    total_bytes: int | None
    validators: Validators

    @asynccontextmanager
    async def part(self, start: int, end: int | None) -> AsyncIterator[AsyncIterator[bytes]]:
        """See `Delivery`."""
        resume = Resume(start, self.total_bytes, self.validators, end)
        async with self.follow(resume) as response:
            if response.status == 200:
                raise RangeRefused("from its first byte")
            self.total_bytes = _checked(response, resume)
            host = response.url.raw_host or ""
            body = chunks(response, host)
            yield body if end is not None or _is_to_the_end(response) else _broken_off(body, host)


def _checked(response: aiohttp.ClientResponse, resume: Resume) -> int | None:
    """The size of the archive (None: unknown) by an answer with the bytes that were asked for; else `RangeRefused`."""
    if response.status != 206:
        raise RangeRefused("that there is no such range" if response.status == 416 else "without bytes")
    content_range = ContentRange.parse(response.headers.get("Content-Range"))
    return resume.total_of(content_range, Validators.stated(response.headers))


def _is_to_the_end(response: aiohttp.ClientResponse) -> bool:
    """Whether an answer 206 goes as far as the archive: an origin may send less than was asked for."""
    content_range = ContentRange.parse(response.headers.get("Content-Range"))
    return content_range is None or content_range.total_bytes in (None, content_range.end)


async def _broken_off(body: AsyncIterator[bytes], host: str) -> AsyncIterator[bytes]:
    async for chunk in body:
        yield chunk
    raise UpstreamUnavailable(f"{host} sent a part of what was asked for")


def asked_url(handle: str, tf_hub_format: str = "compressed") -> URL:
    """Where a handle's module is asked for. Raises `HandleInvalid`."""
    try:
        url = URL(handles.request_url(handle, tf_hub_format), encoded=True)
        _ = url.raw_host, url.port  # parsed only now
    except ValueError:
        raise HandleInvalid("the handle is no URL that can be asked for") from None
    return url

"""What all pages share: their templates, the stylesheet and the script, and what browsers are told of them.

Law: a page loads nothing but its own site's files, runs no script but the site's one, and is whole without it. What is
shown is escaped unless it is `markupsafe.Markup`; an asset's URL names its content, so it is kept for good.
"""

from __future__ import annotations

import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from aiohttp import web

from hubclient.contract.quantities import format_size

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
STATIC = "/-/static"  # what begins with "/-/" is no module: see `scanning.RESERVED`

_PLACE = Path(__file__).parent
_DIGEST_CHARACTERS = 16


@dataclass(frozen=True)
class Asset:
    path: str  #: of its URL, below the site's root
    content_type: str
    body: bytes


class Site:
    """The templates and assets of one server. `root` is what its URLs' paths begin with: "" or "/somewhere"."""

    def __init__(self, root: str = "") -> None:
        self.root = root
        self.assets = {file.name: _asset(file) for file in sorted((_PLACE / "static").iterdir())}
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_PLACE / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._templates.globals |= {"root": root, "asset": self.url_of_asset}
        self._templates.filters |= {"size": format_size, "count": count, "path": quote}

    def render(self, template: str, **values: Any) -> str:
        """The page. A name that the template uses and nobody gave is an error."""
        return self._templates.get_template(template).render(values)

    def url_of_asset(self, name: str) -> str:
        """Where the page finds this file of `static/`; KeyError if there is none."""
        return self.root + self.assets[name].path

    def routes(self) -> list[web.RouteDef]:
        """Those of the assets; `root` is not part of them, for it is what a proxy in front takes away."""
        return [web.get(asset.path, _sender(asset)) for asset in self.assets.values()]


def response(page: str, status: int = 200) -> web.Response:
    """The page as an answer, with the policy that holds for all of them."""
    return web.Response(text=page, status=status, content_type="text/html", charset="utf-8", headers=HEADERS)


def count(number: int, noun: str) -> str:
    """`1 file`, `1,234 files`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _asset(file: Path) -> Asset:
    body = file.read_bytes()
    digest = hashlib.sha256(body).hexdigest()[:_DIGEST_CHARACTERS]
    return Asset(f"{STATIC}/{digest}/{file.name}", mimetypes.guess_type(file.name)[0] or "text/plain", body)


def _sender(asset: Asset) -> Any:
    headers = HEADERS | {"Cache-Control": "public, max-age=31536000, immutable"}

    async def send(_: web.Request) -> web.Response:
        return web.Response(body=asset.body, content_type=asset.content_type, charset="utf-8", headers=headers)

    return send

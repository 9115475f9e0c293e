"""All pages share their templates, assets and policy."""

from __future__ import annotations

import jinja2
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from hubd.publishing.site import CONTENT_SECURITY_POLICY, Site, count, response


@pytest.fixture
def page() -> str:
    return Site().render("error.html", status=404, phrase="Not <Found>", text='There is no "x" & y.')


def test_what_is_shown_is_escaped(page: str) -> None:
    assert "<h1>Not &lt;Found&gt;</h1>" in page
    assert "There is no &#34;x&#34; &amp; y." in page


def test_a_value_that_nobody_gave_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError):
        Site().render("error.html", status=404)


def test_urls_begin_with_the_sites_root() -> None:
    page = Site("/hub").render("error.html", status=404, phrase="Not Found", text="")
    assert 'href="/hub/-/static/' in page
    assert 'href="/-/' not in page
    assert 'href="/hub/"' in page


async def test_assets_are_kept_for_good_under_the_name_of_their_content() -> None:
    site = Site()
    app = web.Application()
    app.add_routes(site.routes())
    async with TestClient(TestServer(app)) as client:
        for name, content_type in (
            ("hubd.css", "text/css"),
            ("hubd.js", "text/javascript"),
            ("icon.svg", "image/svg+xml"),
        ):
            answer = await client.get(site.url_of_asset(name))
            assert answer.status == 200
            assert answer.content_type == content_type
            assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert (await client.get("/-/static/0123456789abcdef/hubd.css")).status == 404


def test_pages_come_with_a_policy_that_lets_only_their_own_site_in() -> None:
    answer = response("<p>", 404)
    assert answer.status == 404
    assert answer.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert "http" not in CONTENT_SECURITY_POLICY


def test_nothing_in_a_template_needs_inline_script_or_style(page: str) -> None:
    assert "<style" not in page
    assert " style=" not in page
    assert "<script>" not in page


def test_counts_have_their_plural() -> None:
    assert [count(number, "file") for number in (0, 1, 1234)] == ["0 files", "1 file", "1,234 files"]

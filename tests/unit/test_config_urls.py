"""URLs in the configuration: one spelling for each, and a reason for what is none."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hubd.config_urls import directory, handle_prefix, listen_address, mirror_url, proxy_url


@pytest.mark.parametrize(
    ("parse", "stated", "parsed"),
    [
        (handle_prefix, "https://TFHub.dev", "https://tfhub.dev/"),
        (handle_prefix, "https://tfhub.dev:443/google", "https://tfhub.dev/google/"),
        (mirror_url, "http://mirror.lan:8080/tfhub", "http://mirror.lan:8080/tfhub/"),
        (mirror_url, "file:///srv/my%20modules", "file:///srv/my%20modules/"),
        (mirror_url, "FILE://localhost/srv/", "file:///srv/"),
        (proxy_url, "HTTP://Proxy.lan:3128/", "http://proxy.lan:3128"),
        (listen_address, "127.0.0.1:9841", "127.0.0.1:9841"),
        (listen_address, "0.0.0.0:65535", "0.0.0.0:65535"),
        (listen_address, "[0:0::1]:9841", "[::1]:9841"),
    ],
)
def test_each_url_has_one_spelling(parse: Callable[[object], object], stated: str, parsed: str) -> None:
    assert parse(stated) == parsed


@pytest.mark.parametrize(
    ("parse", "stated"),
    [
        (handle_prefix, "tfhub.dev"),
        (handle_prefix, "https://"),
        (handle_prefix, "file:///srv/"),
        (handle_prefix, "https://tfhub.dev/?a=b"),
        (handle_prefix, 3),
        (mirror_url, "https://me:word@mirror.lan/"),
        (mirror_url, "https://mirror.lan/a/../b"),
        (mirror_url, "ftp://mirror.lan/"),
        (mirror_url, "file://server/srv/"),
        (mirror_url, "file:srv/"),
        (mirror_url, "file:///srv/%2e%2e/etc"),
        (mirror_url, "file:///srv/%00"),
        (mirror_url, "/srv/modules"),
        (proxy_url, "socks5://proxy.lan:1080"),
        (proxy_url, "http://proxy.lan:3128/path"),
        (proxy_url, "http://me:word@proxy.lan:3128"),
    ],
)
def test_what_is_no_such_url_is_refused_without_repeating_a_password(
    parse: Callable[[object], object], stated: object
) -> None:
    with pytest.raises(ValueError, match=r"mirror|prefix|proxy") as caught:
        parse(stated)
    assert "me:word" not in str(caught.value)


def test_the_path_of_a_directory_is_percent_decoded() -> None:
    assert directory("file:///srv/my%20modules/") == b"/srv/my modules/"


@pytest.mark.parametrize(
    "stated",
    [
        *(9841, True, None, "", ":9841", "9841", "localhost:9841", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536"),
        *("127.0.0.1:x", "127.0.0.1: 1", "::1:9841", "[::1]", "127.0.0.1:9841/metrics", "u@127.0.0.1:1", "[::1%1]:1"),
    ],
)
def test_what_is_no_address_with_a_port_is_refused(stated: object) -> None:
    with pytest.raises(ValueError, match=r"such as \"127\.0\.0\.1:9841\""):
        listen_address(stated)

"""Only names that no site on the web can have are answered."""

from __future__ import annotations

import pytest

from hubd.publishing.rebinding import is_allowed, is_foreign

NAMES = ("box.lan", "*.lab.example.org", "10.1.2.3")


@pytest.mark.parametrize(
    "authority",
    [
        *("localhost", "localhost:8500", "LocalHost:1", "127.0.0.1:8500", "127.3.4.5", "[::1]:8500", "[::1]"),
        *("192.168.7.7:8500", "box.lan", "BOX.lan:8500", "a.lab.example.org", "10.1.2.3:80"),
    ],
)
def test_loopback_the_address_itself_and_the_names_of_the_settings_are_answered(authority: str) -> None:
    assert is_allowed(authority, "192.168.7.7", NAMES)


@pytest.mark.parametrize(
    "authority",
    [
        *("", ":8500", "evil.example", "evil.example:8500", "localhost.evil.example", "127.0.0.1.evil.example"),
        *("192.168.7.8", "10.1.2.4", "lab.example.org", "notbox.lan", "box.lan.", "[::2]", "::1", "0.0.0.0"),
        *(
            "localhost:8500:1",
            "localhost:x",
            "evil.example@localhost",
            "localhost/evil",
            "[localhost",
            "localhost evil",
        ),
        *("2130706433", "0x7f.1", "127.1", "[::ffff:10.0.0.1]"),
    ],
)
def test_what_a_site_could_be_called_is_not(authority: str) -> None:
    assert not is_allowed(authority, "192.168.7.7", NAMES)


@pytest.mark.parametrize(
    ("site", "mode", "foreign"),
    [
        (None, None, False),  # no browser
        ("none", "navigate", False),
        ("same-origin", "cors", False),
        ("cross-site", "navigate", False),  # a link
        ("cross-site", "cors", True),
        ("cross-site", "no-cors", True),
        ("same-site", "cors", True),  # another port of localhost
        ("cross-site", None, True),
    ],
)
def test_a_page_of_another_origin_gets_nothing_for_its_own_use(
    site: str | None, mode: str | None, foreign: bool
) -> None:
    headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode}
    assert is_foreign({name: value for name, value in headers.items() if value is not None}) == foreign

"""Where a redirect may lead, decided before anything is sent there."""

from __future__ import annotations

import pytest
from yarl import URL

from hubclient.contract.errors import HandleForbidden
from hubd.network.session import _target

HERE = URL("https://models.example/google/m/1?tf-hub-format=compressed", encoded=True)


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("https://other.example/x", "https://other.example/x"),
        ("//other.example/x", "https://other.example/x"),
        ("/x?y=%2F#part", "https://models.example/x?y=%2F"),
        ("2", "https://models.example/google/m/2"),
    ],
)
def test_a_redirect_leads_where_its_location_says(location: str, target: str) -> None:
    assert str(_target(HERE, location)) == target


@pytest.mark.parametrize("location", ["http://models.example/google/m/1", "HTTP://other.example/x"])
def test_https_never_leads_to_http(location: str) -> None:
    with pytest.raises(HandleForbidden, match="from https to http"):
        _target(HERE, location)


@pytest.mark.parametrize("location", ["file:///etc/passwd", "FILE:/x", "ftp://h/x", "data:,x", "unix:/run/x.sock"])
def test_nothing_leads_out_of_http(location: str) -> None:
    for here in (HERE, HERE.with_scheme("http")):
        with pytest.raises(HandleForbidden):
            _target(here, location)

"""docs/operations/dragonfly.yaml: its keys are those of Dragonfly's client, and its rules match what never changes.

Dragonfly itself is not run here. The keys are those of dragonflyoss/client, dragonfly-client-config/src/dfdaemon.rs
(2026-08-20), where an unknown key is passed over in silence; and its rules see a URL without its query.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

EXAMPLE: dict[str, Any] = yaml.safe_load(
    (Path(__file__).parents[2] / "docs/operations/dragonfly.yaml").read_text(),
)
PROXY = EXAMPLE["proxy"]
KEYS = {
    "proxy": {
        "server",
        "rules",
        "registryMirror",
        "disableBackToSource",
        "prefetch",
        "prefetchBandwidthLimit",
        "readBufferSize",
    },
    "server": {"ip", "port", "requestRateLimit", "caCert", "caKey", "basicAuth"},
    "rule": {"regex", "useTLS", "redirect", "filteredQueryParams"},
}
DIGEST = "5f" * 32
STORE = "https://models.s3.eu-west-1.amazonaws.com/fleet"


def is_shared(url: str) -> bool:
    """Whether a rule matches: Rust's `Regex.is_match` finds a regex anywhere, as `re.search` does."""
    return any(re.search(rule["regex"], url.partition("?")[0]) for rule in PROXY["rules"])


def test_all_keys_are_dragonflys() -> None:
    assert set(EXAMPLE) == {"proxy"}
    assert set(PROXY) <= KEYS["proxy"]
    assert set(PROXY["server"]) <= KEYS["server"]
    for rule in PROXY["rules"]:
        assert set(rule) <= KEYS["rule"]
        assert all(isinstance(name, str) for name in rule["filteredQueryParams"])


@pytest.mark.parametrize(
    "url",
    [
        f"{STORE}/archives/{DIGEST}?X-Amz-Signature=1",
        f"https://account.blob.core.windows.net/models/archives/{DIGEST}?sig=1",
        f"http://minio.lan:9000/models/fleet/archives/{DIGEST}",
        "https://models.example.org/acme/encoder/1?tf-hub-format=compressed",
    ],
)
def test_what_never_changes_is_shared(url: str) -> None:
    assert is_shared(url)


@pytest.mark.parametrize(
    "url",
    [
        f"{STORE}/handles/{DIGEST}.json",
        f"{STORE}/claims/{DIGEST}.json",
        f"{STORE}/archives/{DIGEST}/more",
        f"{STORE}?list-type=2&prefix=archives/{DIGEST}",
        "https://models.example.org/acme/encoder?tf-hub-format=compressed",
        "https://private.example.org/acme/encoder/1?tf-hub-format=compressed",
    ],
)
def test_what_may_change_or_is_not_for_all_is_not(url: str) -> None:
    assert not is_shared(url)

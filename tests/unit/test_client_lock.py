"""With HUBD_LOCK nothing is given that the lock file does not name, nor other content, on the hit path too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hubclient.contract import lock_file
from hubclient.contract.errors import (
    DaemonUnreachable,
    DigestMismatch,
    HandleForbidden,
    HubError,
    Offline,
    RequestInvalid,
)
from hubclient.contract.lock_file import Locked
from hubclient.resolver import Resolver
from tests.support.handmade_cache import FILES, HandmadeCache

HANDLE = "https://example.org/m/1"
CONTENT, OTHER_CONTENT = "c" * 64, "d" * 64


@pytest.fixture
def cache(tmp_path: Path) -> HandmadeCache:
    return HandmadeCache(tmp_path / "cache")


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "hub.lock"


@pytest.fixture
def environ(tmp_path: Path, cache: HandmadeCache, lock: Path) -> dict[str, str]:
    """No daemon runs, and none may be started."""
    return {
        "TFHUB_CACHE_DIR": cache.root,
        "HUBD_AUTOSTART": "0",
        "HUBD_TIMEOUT": "0",
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "HUBD_LOCK": str(lock),
    }


@pytest.fixture
def resolver(environ: dict[str, str]) -> Resolver:
    return Resolver(environ)


def write(lock: Path, digest: str, handle: str = HANDLE) -> None:
    staged = lock.with_suffix(".new")
    staged.write_bytes(lock_file.dump([Locked(handle, digest, CONTENT, 1)]))
    staged.rename(lock)


def write_manifest(cache: HandmadeCache, digest: str, content_digest: str) -> None:
    Path(cache.layout.manifest(digest)).write_text(json.dumps({"content_digest": content_digest}))


def refusal(resolver: Resolver, handle: str = HANDLE, digest: str | None = None) -> type[HubError]:
    """The error with which every way to a module refuses it."""
    for ask in (resolver.resolve, resolver.hold):
        with pytest.raises(HubError) as caught:
            ask(handle, digest=digest)
    return type(caught.value)


def test_the_locked_digest_is_answered_without_a_daemon(cache: HandmadeCache, lock: Path, resolver: Resolver) -> None:
    digest = cache.add(HANDLE)
    write(lock, digest)
    for _ in range(2):
        assert resolver.resolve(HANDLE) == cache.layout.module(digest)
    held = resolver.look("HTTPS://EXAMPLE.org/m/1")
    assert held is not None
    assert held.path == cache.layout.module(digest)


def test_a_handle_that_is_not_in_the_lock_file_is_refused_by_name(
    cache: HandmadeCache, lock: Path, resolver: Resolver
) -> None:
    write(lock, cache.add("https://example.org/other/1"), "https://example.org/other/1")
    cache.add(HANDLE)
    assert refusal(resolver) is HandleForbidden
    with pytest.raises(HandleForbidden, match=f"{HANDLE} is not in the lock file {lock}"):
        resolver.look(HANDLE)


def test_other_content_in_the_cache_is_not_given(
    cache: HandmadeCache, lock: Path, resolver: Resolver, environ: dict[str, str]
) -> None:
    digest = cache.add(HANDLE)
    write(lock, "1" * 64)
    write_manifest(cache, digest, OTHER_CONTENT)
    assert resolver.look(HANDLE) is None
    assert refusal(resolver) is DaemonUnreachable, "a daemon is asked for the locked one"
    environ["HUBD_OFFLINE"] = "1"
    assert refusal(resolver) is DigestMismatch


def test_what_is_resolved_already_is_refused_once_the_lock_file_says_otherwise(
    cache: HandmadeCache, lock: Path, resolver: Resolver
) -> None:
    digest = cache.add(HANDLE)
    write(lock, digest)
    assert resolver.resolve(HANDLE)
    write(lock, "1" * 64)
    assert refusal(resolver) is DaemonUnreachable
    write(lock, digest, "https://example.org/other/1")
    assert refusal(resolver) is HandleForbidden
    write(lock, digest)
    assert resolver.resolve(HANDLE)


def test_other_bytes_of_the_locked_content_are_as_good(
    cache: HandmadeCache, lock: Path, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = cache.add(HANDLE)
    write(lock, "1" * 64)
    write_manifest(cache, digest, CONTENT)
    path = resolver.resolve(HANDLE)
    assert path == cache.layout.module(digest)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("opened")

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refuse)
        patched.setattr("builtins.open", refuse)
        assert resolver.resolve(HANDLE) == path, "known from the first time"
    # Who names a digest of an archive means its bytes.
    assert refusal(resolver, digest="1" * 64) is DaemonUnreachable
    assert refusal(resolver, digest=digest) is DigestMismatch


@pytest.mark.parametrize("manifest", [None, "", "[]", '{"content_digest": 3}'])
def test_a_tree_that_does_not_tell_its_content_is_not_given(
    cache: HandmadeCache, lock: Path, resolver: Resolver, manifest: str | None
) -> None:
    digest = cache.add(HANDLE)
    write(lock, "1" * 64)
    if manifest is not None:
        Path(cache.layout.manifest(digest)).write_text(manifest)
    assert refusal(resolver) is DaemonUnreachable


def test_a_locked_module_is_never_too_old(cache: HandmadeCache, lock: Path, resolver: Resolver) -> None:
    handle = "https://example.org/latest"
    digest = cache.add(handle, direct_for_seconds=-10)
    write(lock, digest, handle)
    assert resolver.resolve(handle) == cache.layout.module(digest)  # warnings are errors: it is not said to be stale


@pytest.mark.parametrize("text", [None, "", "version = 2"])
def test_without_a_usable_lock_file_nothing_is_given(
    cache: HandmadeCache, lock: Path, resolver: Resolver, text: str | None
) -> None:
    cache.add(HANDLE)
    if text is not None:
        lock.write_text(text)
    assert refusal(resolver) is RequestInvalid


def test_an_empty_variable_is_none_and_offline_is_told_for_what_is_missing(
    cache: HandmadeCache, lock: Path, resolver: Resolver, environ: dict[str, str]
) -> None:
    environ["HUBD_OFFLINE"] = "1"
    write(lock, "1" * 64)
    assert refusal(resolver) is Offline
    environ["HUBD_LOCK"] = ""
    digest = cache.add(HANDLE)
    assert resolver.resolve(HANDLE) == cache.layout.module(digest)


def test_directories_of_ones_own_are_not_the_lock_files_business(tmp_path: Path, resolver: Resolver) -> None:
    (tmp_path / "saved_model.pb").write_bytes(FILES["saved_model.pb"])
    assert resolver.resolve(str(tmp_path)) == str(tmp_path)


def test_the_parser_is_imported_only_where_a_lock_file_is_named() -> None:
    parser = {"tomllib", "hubclient.contract.lock_file"}
    code = f"import sys, hubclient.resolving; sys.exit(not {parser}.isdisjoint(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

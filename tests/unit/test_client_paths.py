"""Handles that are directories of the user's own: answered without cache and daemon."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import hubclient


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HUBD_SOCKET", str(tmp_path / "nobody" / "listens.sock"))
    directory = tmp_path / "my module"
    directory.mkdir()
    (directory / "saved_model.pb").write_bytes(b"\x08\x01")
    return directory


def test_a_path_is_answered_as_itself(module: Path) -> None:
    assert hubclient.resolve(str(module)) == str(module)


def test_a_path_object_is_a_path(module: Path) -> None:
    assert hubclient.resolve(module) == str(module)


def test_a_relative_path_is_answered_absolute(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(module.parent)
    assert hubclient.resolve("my module") == str(module)


def test_the_home_directory_is_expanded(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(module.parent))
    assert hubclient.resolve("~/my module") == str(module)


@pytest.mark.parametrize("start", ["file://", "FILE://", "file://localhost"])
def test_a_file_url_names_a_directory(module: Path, start: str) -> None:
    assert hubclient.resolve(start + str(module).replace(" ", "%20")) == str(module)


@pytest.mark.parametrize("name", ["saved_model.pbtxt", "tfhub_module.pb"])
def test_each_kind_of_module_is_one(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert hubclient.resolve(tmp_path) == str(tmp_path)


def test_a_path_can_be_leased(module: Path) -> None:
    with hubclient.lease(module) as path:
        assert path == str(module)


def test_a_missing_directory_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(hubclient.NotFound, match=r"there is no directory .*https://"):
        hubclient.resolve(tmp_path / "absent")


def test_a_directory_without_a_model_is_no_module(tmp_path: Path) -> None:
    with pytest.raises(hubclient.NotAModule, match=r"saved_model\.pb"):
        hubclient.resolve(tmp_path)


def test_a_file_is_no_module(module: Path) -> None:
    with pytest.raises(hubclient.NotAModule, match="is a file"):
        hubclient.resolve(module / "saved_model.pb")


@pytest.mark.parametrize("handle", ["", "file://elsewhere/m", "file://x", "a\0b", "file:///a%00b", "ftp://host/m"])
def test_what_names_no_directory_is_invalid(handle: str) -> None:
    with pytest.raises(hubclient.HandleInvalid):
        hubclient.resolve(handle)


def test_a_directory_has_no_digest(module: Path) -> None:
    with pytest.raises(hubclient.RequestInvalid, match="digest"):
        hubclient.resolve(module, digest="0" * 64)


@pytest.mark.parametrize("handle", [None, 7, b"/module"])
def test_what_is_neither_text_nor_path_is_a_type_error(handle: object) -> None:
    with pytest.raises(TypeError):
        hubclient.resolve(handle)  # type: ignore[arg-type]  # the very mistake that this is about


def test_no_path_needs_a_daemon(module: Path) -> None:
    assert not os.path.exists(os.environ["HUBD_SOCKET"])
    hubclient.resolve(module)

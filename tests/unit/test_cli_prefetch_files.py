"""What `hubctl prefetch` is given: handles, prefetch files, lock files, and what is none of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from hubclient.cli.prefetch_files import expand, is_file
from hubclient.contract.errors import RequestInvalid
from hubclient.contract.handles import canonical, key
from hubclient.contract.lock_file import Locked, dump
from hubclient.contract.prefetch_file import Wanted

ONE, TWO = "https://h.example/one/1", "https://h.example/two/1"
DIGEST, OTHER = "1" * 64, "2" * 64


def wanted(handle: str, digest: str | None = None, content_digest: str | None = None) -> Wanted:
    return Wanted(handle, key(canonical(handle)), digest, content_digest)


def write(path: Path, text: str | bytes) -> str:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def test_handles_and_files_are_told_apart_by_their_names_alone() -> None:
    assert is_file("modules.toml")
    assert is_file("/srv/hub.lock")
    assert not is_file("https://h.example/modules.toml")
    assert not is_file("kaggle:google/nnlm/tensorFlow2/modules.toml")
    assert not is_file("some/directory")


def test_files_and_handles_add_up(tmp_path: Path) -> None:
    plan = write(tmp_path / "modules.toml", f'handles = ["{ONE}"]')
    lock = write(tmp_path / "hub.lock", dump([Locked(TWO, DIGEST, OTHER, 1)]))
    found = expand([plan, "https://h.example/three/1", lock, ONE])
    assert list(found.wanted.values()) == [
        wanted(ONE),
        wanted("https://h.example/three/1"),
        wanted(TWO, DIGEST, OTHER),
    ]
    assert (found.errors, found.notes) == ({}, [])


def test_a_prefetch_file_names_a_lock_file_beside_it(tmp_path: Path) -> None:
    write(tmp_path / "hub.lock", dump([Locked(TWO, DIGEST, OTHER, 1)]))
    plan = write(tmp_path / "modules.toml", 'lock = "hub.lock"')
    assert list(expand([plan]).wanted.values()) == [wanted(TWO, DIGEST, OTHER)]


def test_every_spelling_is_held_to_the_digest_that_one_of_them_demands(tmp_path: Path) -> None:
    spelt = "HTTPS://H.example/one/1"
    plan = write(tmp_path / "m.toml", f'[[module]]\nhandle = "{ONE}"\ndigest = "sha256:{DIGEST}"')
    assert {one.handle: one.digest for one in expand([spelt, plan]).wanted.values()} == {spelt: DIGEST, ONE: DIGEST}


def test_what_a_file_says_of_later_is_not_passed_over_in_silence(tmp_path: Path) -> None:
    plan = write(tmp_path / "m.toml", f'handles = ["{ONE}"]\npin = true\nrefresh = "1d"\npriority = "normal"')
    assert expand([plan]).notes == [
        f"{plan}: what it says of refresh, pin counts only in the daemon's own directory of prefetch files"
    ]


@pytest.mark.parametrize(
    ("name", "content", "code", "told"),
    [
        ("m.toml", None, "request-invalid", "cannot be read: No such file"),
        ("m.toml", "handels = []", "request-invalid", 'did you mean "handles"?'),
        ("m.toml", 'lock = "gone.lock"', "request-invalid", "there is no lock file"),
        ("m.lock", None, "request-invalid", "there is no lock file"),
        ("m.lock", "version = 7", "request-invalid", "is no lock file"),
        ("m.txt", "x", "handle-invalid", "this is a path: there is nothing to fetch, but for files called *.toml"),
    ],
)
def test_what_is_wrong_with_one_spoils_no_other(
    tmp_path: Path, name: str, content: str | None, code: str, told: str
) -> None:
    path = tmp_path / name
    if content is not None:
        write(path, content)
    found = expand([str(path), ONE])
    assert list(found.wanted.values()) == [wanted(ONE)]
    assert found.errors[str(path)].code == code
    assert told in str(found.errors[str(path)])


def test_two_digests_of_one_module_are_an_error(tmp_path: Path) -> None:
    plans = [
        write(tmp_path / f"{digest[0]}.toml", f'[[module]]\nhandle = "{ONE}"\ndigest = "{digest}"')
        for digest in (DIGEST, OTHER)
    ]
    with pytest.raises(RequestInvalid, match="two different digests"):
        expand(plans)

"""Lock files say the same for the same modules, and what is none is refused as a whole."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from hubclient.contract import lock_file
from hubclient.contract.errors import RequestInvalid
from hubclient.contract.handles import key
from hubclient.contract.lock_file import Locked

ONE = Locked("https://example.org/a/1", "1" * 64, "2" * 64, 300)
TWO = Locked('https://example.org/b?name="x"&y=é', "3" * 64, "4" * 64, 0)
HEAD = "version = 1\n"


def module(**changes: object) -> str:
    fields = {"handle": ONE.handle, "digest": ONE.digest, "content_digest": ONE.content_digest, "size_bytes": 300}
    lines = [f"{name} = {value!r}\n" for name, value in (fields | changes).items() if value is not None]
    return "".join(["[[module]]\n", *lines])


def test_what_is_dumped_is_parsed_by_key() -> None:
    assert lock_file.parse(lock_file.dump([ONE, TWO])) == {key(one.handle): one for one in (ONE, TWO)}


def test_the_same_modules_give_the_same_bytes_sorted_and_without_dates() -> None:
    modules = [Locked(f"https://example.org/{number}", "1" * 64, "2" * 64, number) for number in range(20)]
    shuffled = random.Random(1).sample(modules, len(modules))
    assert lock_file.dump(shuffled) == lock_file.dump(modules)
    first, *rest = lock_file.dump([TWO, ONE]).decode().split("\n[[module]]\n")
    assert first.splitlines()[-1] == "version = 1"
    assert [block.splitlines()[0] for block in rest] == [
        'handle = "https://example.org/a/1"',
        'handle = "https://example.org/b?name=\\"x\\"&y=é"',
    ]


def test_one_more_module_changes_no_line_of_the_others() -> None:
    before, after = (lock_file.dump(modules).decode().splitlines() for modules in ([ONE], [TWO, ONE]))
    assert after[: len(before)] == before


def test_another_spelling_is_the_same_handle_and_later_members_are_ignored() -> None:
    text = HEAD + module(handle="HTTPS://Example.org:443/a/1#top", digest=f"sha256:{ONE.digest}", license="MIT")
    assert lock_file.parse(text.encode()) == {key(ONE.handle): ONE}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "version"),
        ("version = 2\n", "version 1"),
        (HEAD + "module = 3\n", "array"),
        (HEAD + "module = [3]\n", "no handle"),
        (HEAD + "[module]\nhandle = 'https://example.org/a/1'\n", "array"),
        (HEAD + module(handle=None), "no handle"),
        (HEAD + module(handle="./a"), "https://"),
        (HEAD + module(digest="1" * 63), "digest"),
        (HEAD + module(digest=f"md5:{'1' * 64}"), "digest"),
        (HEAD + module(content_digest=None), "content_digest"),
        (HEAD + module(size_bytes=-1), "size"),
        (HEAD + module(size_bytes="300"), "size"),
        (HEAD + module() + module(handle=ONE.handle + "#again"), "twice"),
        (HEAD + "[[module]\n", "line 2"),
        ("version = \xff\n", "utf-8"),
    ],
)
def test_what_is_no_lock_file_is_refused_with_its_name_and_a_reason(text: str, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "hub.lock"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(RequestInvalid, match=f"(?s){file}.*{reason}"):
        lock_file.read(str(file))


@pytest.mark.parametrize(
    "text",
    [
        HEAD + 2 * module(handle=f"{ONE.handle}?key=secret"),
        HEAD + module(handle=f"{ONE.handle}?key=secret", digest=None),
        HEAD + module(handle=f"{ONE.handle}?key=secret", size_bytes=-1),
        HEAD + module(handle="https://user:secret@example.org/a/1"),
    ],
)
def test_a_mistake_is_named_without_repeating_a_secret(text: str) -> None:
    with pytest.raises(ValueError, match=r"module, number [12]: ") as raised:
        lock_file.parse(text.encode())
    assert "secret" not in str(raised.value)


def test_a_file_that_is_not_there_or_not_to_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestInvalid, match="hubctl lock HANDLE"):
        lock_file.read(str(tmp_path / "hub.lock"))
    with pytest.raises(RequestInvalid, match="directory"):
        lock_file.read(str(tmp_path))

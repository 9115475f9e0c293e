"""Prefetch files: what one says, and each mistake in it by name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hubclient.contract.handles import canonical, key
from hubclient.contract.lock_file import Locked
from hubclient.contract.prefetch_file import MAX_BYTES, PrefetchFile, Wanted, Window, parse, with_lock

ONE, TWO = "https://h.example/one/1", "https://h.example/two/1"
EXAMPLE = Path(__file__).resolve().parents[2] / "docs/operations/prefetch-example.toml"
KEYS = {"handles", "handle", "digest", "lock", "priority", "refresh", "window", "pin"}
DIGEST, OTHER = "1" * 64, "2" * 64


def wanted(handle: str, digest: str | None = None, content_digest: str | None = None) -> Wanted:
    return Wanted(handle, key(canonical(handle)), digest, content_digest)


def test_a_file_says_what_is_wanted_and_how() -> None:
    text = f"""
handles = ["{ONE}"]
priority = "high"
refresh = "1d"
window = "22:30-06:00"
pin = true
lock = "hub.lock"

[[module]]
handle = "{TWO}"
digest = "sha256:{DIGEST}"
"""
    assert parse(text.encode()) == PrefetchFile(
        modules=(wanted(ONE), wanted(TWO, DIGEST)),
        lock="hub.lock",
        priority="high",
        refresh_seconds=86400.0,
        window=Window(22 * 60 + 30, 6 * 60),
        pin=True,
    )


def test_all_but_the_modules_may_be_left_out() -> None:
    assert parse(f'handles = ["{ONE}"]'.encode()) == PrefetchFile((wanted(ONE),))
    assert parse(b'lock = "hub.lock"') == PrefetchFile((), lock="hub.lock")
    assert parse(b"handles = []").modules == ()


def test_a_handle_keeps_its_spelling_and_is_wanted_once() -> None:
    spelt = "HTTPS://H.example/one/1"
    text = f'handles = ["{spelt}", "{ONE}"]\n[[module]]\nhandle = "{ONE}"\ndigest = "{DIGEST}"'
    assert parse(f'handles = ["{spelt}", "{ONE}"]'.encode()).modules == (wanted(spelt),)
    assert parse(text.encode()).modules == (wanted(ONE, DIGEST),)  # what is said of it more exactly counts


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "it wants no module: state handles, [[module]]s or a lock"),
        ("handles = [", "it is no TOML"),
        ("\xff", "it is no TOML"),
        ("handles = " + "[" * 3000, "nested too deeply"),
        (f'handels = ["{ONE}"]', 'unknown key "handels"; did you mean "handles"?'),
        (f'handles = ["{ONE}"]\npinned = true', 'unknown key "pinned"; did you mean "pin"?'),
        (f'handles = ["{ONE}"]\ncolour = 1', 'unknown key "colour"'),
        (
            f'[[module]]\nhandle = "{ONE}"\ndigets = ""',
            'module, number 1: unknown key "digets"; did you mean "digest"?',
        ),
        (f'[[module]]\nhandle = "{ONE}"\ndigest = "abc"', "module, number 1: digest: a digest is sha256: and 64"),
        ('[[module]]\ndigest = ""', "module, number 1: a handle is a URL in quotes"),
        (f'[module]\nhandle = "{ONE}"', "module: write [[module]]"),
        ("module = [1]", "module: write [[module]]"),
        (f'handles = "{ONE}"', "handles: must be a list, in [brackets]"),
        (f'handles = ["{ONE}", 7]', "handles, number 2: a handle is a URL in quotes"),
        ('handles = ["some/path"]', "handles, number 1: this is a path"),
        ('handles = ["https://user:secret@h.example/m/1"]', "handles, number 1: the handle contains user info"),
        ('lock = "../hub.lock"', "lock: a lock file lies beside the prefetch file"),
        ('lock = "/etc/passwd"', "lock: a lock file lies beside the prefetch file"),
        ('lock = "x"\npriority = 1', 'priority: must be "high", "normal" or "low"'),
        ('lock = "x"\nrefresh = 1', "refresh: a time is a string with a unit"),
        ('lock = "x"\nrefresh = "1s"', 'refresh: must be between "1min" and "3650d"'),
        ('lock = "x"\nrefresh = "99999d"', 'refresh: must be between "1min" and "3650d"'),
        ('lock = "x"\nwindow = "1-5"', 'window: a window is like "01:00-05:00"'),
        ('lock = "x"\nwindow = "25:00-05:00"', 'window: a window is like "01:00-05:00"'),
        ('lock = "x"\nwindow = "00:00-24:00"', 'window: a window is like "01:00-05:00"'),
        ('lock = "x"\nwindow = "05:00-05:00"', 'window: a window is like "01:00-05:00"'),
        ('lock = "x"\npin = "yes"', "pin: must be true or false"),
        ("#" * (MAX_BYTES + 1), "it has more than"),
    ],
)
def test_a_mistake_is_named_without_repeating_a_secret(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(complaint)) as raised:
        parse(text.encode("latin-1"))
    assert "secret" not in str(raised.value)


def test_all_mistakes_are_told_but_not_without_end() -> None:
    with pytest.raises(ValueError, match="handles") as raised:
        parse(b"pin = 1\nhandles = [1, 2, 3, 4, 5, 6]\nrefesh = 1")
    assert str(raised.value).count("; ") == 6  # five mistakes, a hint and a number
    assert str(raised.value).endswith("and 3 more mistakes")


def test_a_lock_file_adds_its_modules_with_their_content() -> None:
    file = parse(f'handles = ["{ONE}"]\nlock = "hub.lock"'.encode())
    both = with_lock(file, [Locked(ONE, DIGEST, OTHER, 5), Locked(TWO, OTHER, DIGEST, 6)])
    assert both.modules == (wanted(ONE, DIGEST, OTHER), wanted(TWO, OTHER, DIGEST))


def test_two_digests_of_one_module_contradict_each_other() -> None:
    text = "".join(f'[[module]]\nhandle = "{ONE}?key=secret"\ndigest = "{digest}"\n' for digest in (DIGEST, OTHER))
    with pytest.raises(ValueError, match="two different digests") as raised:
        parse(text.encode())
    assert "secret" not in str(raised.value)


def test_the_example_in_the_documents_says_what_a_file_can_say() -> None:
    text = EXAMPLE.read_text()
    file = parse(text.encode())
    assert (len(file.modules), file.refresh_seconds, file.window, file.pin) == (3, 86400.0, Window(60, 300), True)
    assert set(re.findall(r"^#? ?(\w+) = ", text, re.MULTILINE)) == KEYS
    table = re.findall(r"^\| (`.*?) \|", (EXAMPLE.parent / "prefetch.md").read_text(), re.MULTILINE)
    assert set(re.findall(r"`\[*(\w+)\]*`", " ".join(table))) >= KEYS

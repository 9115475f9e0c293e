"""How hubctl says sizes, times and names."""

from __future__ import annotations

import pytest

from hubclient.cli import wording


@pytest.mark.parametrize(
    ("size_bytes", "said"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KB"),
        (999_949, "999.9 KB"),
        (999_950, "1.0 MB"),
        (186_000_000, "186.0 MB"),
        (200 * 10**9, "200.0 GB"),
        (5 * 10**18, "5000.0 PB"),
    ],
)
def test_sizes_are_decimal_and_never_reach_four_digits_before_the_next_unit(size_bytes: int, said: str) -> None:
    assert wording.size(size_bytes) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0004, "0.4 ms"),
        (0.25, "0.2 s"),
        (8.72, "8.7 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (125, "2 min 5 s"),
        (12_000, "3 h 20 min"),
        (86_400, "1 d"),
        (446_400, "5 d 4 h"),
    ],
)
def test_durations_have_two_units_at_most(seconds: float, said: str) -> None:
    assert wording.duration(seconds) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "1 s left"), (5.1, "6 s left"), (59, "59 s left"), (59.7, "1 min left"), (125, "2 min 5 s left")],
)
def test_estimates_are_whole_seconds(seconds: float, said: str) -> None:
    assert wording.remaining(seconds) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-3, "just now"), (9.9, "just now"), (59, "59 s ago"), (185, "3 min ago"), (7200, "2 h ago"), (10**6, "11 d ago")],
)
def test_ages_have_one_unit(seconds: float, said: str) -> None:
    assert wording.ago(seconds) == said


def test_what_would_steer_a_terminal_is_written_as_an_escape() -> None:
    assert wording.printable("https://h/\x1b[2J\x9b1A\u202eab\n") == "https://h/\\x1b[2J\\x9b1A\\u202eab\\n"


def test_a_label_keeps_the_end_of_the_handle() -> None:
    label = wording.short("https://tfhub.dev/google/nnlm-en-dim50/2")
    assert label == "tfhub.dev/google/nnlm-en-dim50/2"
    assert wording.fitted(label, 34) == label + "  "
    assert wording.fitted(label, 15) == "…nlm-en-dim50/2"


def test_counts_have_their_plural() -> None:
    assert [wording.count(1, "fetch"), wording.count(2, "fetch"), wording.count(1200, "module")] == [
        "1 fetch",
        "2 fetches",
        "1,200 modules",
    ]
    assert wording.count(2, "process") == "2 processes"

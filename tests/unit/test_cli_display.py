"""What a person sees of fetches under way, on a terminal and elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

from hubclient.cli.asking import Answered, Progress
from hubclient.cli.display import Plain, Silent, display_for, outcome
from hubclient.cli.live import row_of

HANDLE = "https://tfhub.dev/google/nnlm-en-dim50/2"
LABEL = len(HANDLE) - len("https://")


def fetch(
    received_bytes: int = 0,
    state: str = "transferring",
    total_bytes: int | None = 186_000_000,
    trouble: str | None = None,
) -> dict[str, Any]:
    """The API's Fetch, at 20 MB/s."""
    eta = None if total_bytes is None else (total_bytes - received_bytes) / 20e6
    return {
        "id": "1",
        "handle": HANDLE,
        "state": state,
        "received_bytes": received_bytes,
        "total_bytes": total_bytes,
        "unpacked_bytes": received_bytes * 2,
        "rate_bytes_per_second": 20e6 if received_bytes else 0.0,
        "eta_seconds": eta if received_bytes else None,
        "trouble": trouble,
        "waiters": 1,
    }


def test_that_another_machine_fetches_it_is_said_with_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    waiting = fetch(83_700_000, state="waiting")
    assert row_of(waiting, HANDLE, 100, LABEL).plain.endswith("  another machine fetches it, 45% of 186.0 MB")
    assert row_of(fetch(state="waiting", total_bytes=None), HANDLE, 100, LABEL).plain.endswith("machine fetches it")
    Plain([HANDLE]).show(Progress(0, waiting))
    assert capsys.readouterr().err == f"waiting  {HANDLE}, another machine fetches it, 45% of 186.0 MB\n"


@pytest.mark.parametrize(
    ("tier", "said"), [("fleet", ", from the fleet's store"), ("mirror", ", from a mirror"), ("origin", ""), (None, "")]
)
def test_where_it_came_from_is_said_when_it_was_not_the_origin(tier: str | None, said: str) -> None:
    result = {"outcome": "fetched", "size_bytes": 7} | ({} if tier is None else {"tier": tier})
    assert outcome(HANDLE, result, 2.0, fetch(1)) == f"fetched  {HANDLE}  186.0 MB in 2.0 s{said}"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_plain_lines_come_at_the_start_at_each_tenth_and_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    plain = Plain([HANDLE], clock)
    plain.show(Progress(0, fetch(state="connecting")))
    for percent in range(101):  # 2 s for each percent
        clock.now = percent * 2
        plain.show(Progress(0, fetch(1_860_000 * percent)))
    plain.show(Answered(0, {"outcome": "fetched", "size_bytes": 1}, 200.0))

    lines = capsys.readouterr().err.splitlines()

    assert lines[0] == f"connecting  {HANDLE}"
    assert lines[1] == f"transferring  {HANDLE}, 5% of 186.0 MB, 20.0 MB/s, 9 s left"
    assert lines[-1] == f"fetched  {HANDLE}  186.0 MB in 3 min 20 s"
    assert len(lines) == 1 + 20 + 1  # 10 s bring 5 %


def test_a_short_download_is_two_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    plain = Plain([HANDLE], clock)
    plain.show(Progress(0, fetch(state="connecting")))
    for percent in range(101):
        clock.now = percent * 0.005
        plain.show(Progress(0, fetch(1_860_000 * percent)))
    plain.show(Answered(0, {"outcome": "fetched", "size_bytes": 1}, 0.5))
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_without_a_known_size_the_plain_line_tells_the_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    Plain([HANDLE]).show(Progress(0, fetch(5_000_000, total_bytes=None)))
    assert capsys.readouterr().err == f"transferring  {HANDLE}, 5.0 MB, 20.0 MB/s\n"


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    silent = Silent([HANDLE])
    silent.show(Progress(0, fetch(5)))
    silent.show(Answered(0, {"outcome": "hit", "size_bytes": 1}, 0.1))
    assert capsys.readouterr().err == ""


def test_json_into_a_pipe_leaves_stderr_to_problems() -> None:
    assert type(display_for([HANDLE], quiet=False, as_json=True)) is Silent
    assert type(display_for([HANDLE], quiet=False, as_json=False)) is Plain


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ({"outcome": "hit", "size_bytes": 5}, "hit  h  in 0.4 ms"),
        ({"outcome": "fetched", "size_bytes": 5000}, "fetched  h  5.0 KB unpacked in 0.4 ms"),
        ({"outcome": "joined", "size_bytes": 5000}, "joined  h  somebody else's download: 5.0 KB unpacked in 0.4 ms"),
        ({"outcome": "stale", "size_bytes": 5000}, "stale  h"),
    ],
)
def test_the_last_line_names_the_outcome(result: dict[str, Any], said: str) -> None:
    assert outcome("h", result, 0.0004, None) == said


@pytest.mark.parametrize(
    "shown",
    [
        fetch(85_200_000),
        fetch(85_200_000, total_bytes=None),
        fetch(state="queued"),
        fetch(state="connecting"),
        fetch(186_000_000, state="unpacking"),
        fetch(186_000_000, state="publishing"),
    ],
    ids=lambda shown: f"{shown['state']}-{shown['total_bytes']}",
)
def test_a_row_fits_its_terminal(shown: dict[str, Any]) -> None:
    for width in range(24, 201):
        assert row_of(shown, HANDLE, width, LABEL).cell_len <= width


def test_a_wide_row_shows_everything_and_a_narrow_one_the_handle_and_the_percentage() -> None:
    wide = row_of(fetch(83_700_000), HANDLE, 130, LABEL).plain
    for part in ("tfhub.dev/google/nnlm-en-dim50/2", "━━━──", "45%", "83.7 MB of 186.0 MB", "20.0 MB/s", "6 s left"):
        assert part in wide
    narrow = row_of(fetch(83_700_000), HANDLE, 40, LABEL).plain
    assert "nnlm-en-dim50/2" in narrow
    assert "45%" in narrow


def test_a_terminal_without_unicode_gets_an_ascii_bar() -> None:
    row = row_of(fetch(83_700_000), "h", 130, 1, ascii_only=True).plain
    assert "━" not in row
    assert "==--" in row


def test_a_failed_try_is_told_at_once_and_once(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    plain = Plain([HANDLE], clock)
    busy, cut = "tfhub.dev answered HTTP 503", "tfhub.dev cut the transfer"
    for trouble in (None, busy, busy, None, cut):
        clock.now += 0.2
        plain.show(Progress(0, fetch(1_860_000, trouble=trouble)))
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(", ")[2] for line in lines[1:]] == [
        f"is tried again: {busy}",
        f"is tried again: {cut}",
    ]


def test_a_failed_try_stands_in_its_row() -> None:
    row = row_of(fetch(1_860_000, trouble="tfhub.dev answered HTTP 503"), HANDLE, 120, 60)
    assert "is tried again: tfhub.dev answered HTTP 503" in row.plain

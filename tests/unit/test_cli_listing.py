"""`hubctl ls`: pages, order and columns."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from hubclient.cli.listing import HEADER, RIGHT, SPARE, Order, all_modules, row_of, sort, with_readers
from hubclient.cli.tables import plain_table, terminal_table

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def module(
    name: str, size_bytes: int = 5_000_000, last_used_at: str = "2026-03-01T11:57:00Z", **fields: Any
) -> dict[str, Any]:
    return {
        "handle": f"https://tfhub.dev/google/{name}",
        "key": name,
        "digest": "0123456789abcdef" * 4,
        "size_bytes": size_bytes,
        "fetched_at": "2026-02-01T12:00:00Z",
        "last_used_at": last_used_at,
        "pinned": False,
        **fields,
    }


def test_pages_are_read_to_the_last() -> None:
    pages: dict[str, dict[str, Any]] = {
        "/v1/modules?limit=500": {"modules": [module("a"), module("b")], "next": "b"},
        "/v1/modules?after=b&limit=500": {"modules": [module("c")], "next": "c"},
        "/v1/modules?after=c&limit=500": {"modules": [], "next": None},
    }
    assert [one["key"] for one in all_modules(pages.__getitem__)] == ["a", "b", "c"]


def test_filters_are_asked_for_on_every_page() -> None:
    asked = "limit=500&filter=size%3E1GB&filter=handle~a%26b"
    pages: dict[str, dict[str, Any]] = {
        f"/v1/modules?{asked}": {"modules": [module("a")], "next": "a"},
        f"/v1/modules?after=a&{asked}": {"modules": [module("b")], "next": None},
    }
    assert [one["key"] for one in all_modules(pages.__getitem__, ["size>1GB", "handle~a&b"])] == ["a", "b"]


@pytest.mark.parametrize(
    ("order", "names"),
    [(Order.NAME, "abc"), (Order.SIZE, "bca"), (Order.USED, "cab"), (Order.FETCHED, "bac")],
    ids=lambda value: str(value),
)
def test_the_order_is_by_name_or_largest_or_last_used_or_fetched_first(order: Order, names: str) -> None:
    modules = [
        module("c", 7, "2026-03-01T11:59:59.25Z"),
        module("a", 5, "2026-03-01T11:00:00+00:00"),
        module("b", 9, "2026-02-01T11:00:00Z", fetched_at="2026-02-01T14:00:00+01:00"),
    ]
    assert "".join(one["key"] for one in sort(iter(modules), order)) == names


def test_a_person_reads_ages_and_a_program_reads_times() -> None:
    assert row_of(module("a"), NOW)[1:] == ("5.0 MB", "3 min ago", "28 d ago", "-", "0123456789ab")
    assert row_of(module("a"), None)[2:4] == ("2026-03-01T11:57:00Z", "2026-02-01T12:00:00Z")


def test_pins_and_leases_are_flags() -> None:
    assert row_of(module("a", pinned=True, leased=True), NOW)[4] == "PL"
    assert row_of(module("a", leased=True), NOW)[4] == "L"


def test_whom_modules_are_private_to_is_told_if_one_is() -> None:
    rows = [("a",), ("a",)]
    assert with_readers(("HANDLE",), rows, [module("a"), module("a", reader=None)]) == (("HANDLE",), rows)
    header, told = with_readers(("HANDLE",), rows, [module("a", reader=0), module("a")])
    assert (header, told) == (("HANDLE", "READER"), [("a", "root"), ("a", "-")])


def test_a_plain_table_is_aligned_and_keeps_long_handles_whole() -> None:
    rows = [row_of(module("a"), NOW), row_of(module("b" * 300), NOW)]
    lines = plain_table(HEADER, rows, frozenset({1})).splitlines()
    assert lines[2].startswith("https://tfhub.dev/google/" + "b" * 300 + "  5.0 MB  ")
    assert len({line.index("0123456789ab") for line in lines[1:]} | {lines[0].index("DIGEST")}) == 1
    assert not any(line != line.rstrip() for line in lines)


def test_a_narrow_terminal_folds_the_handle_and_hides_nothing() -> None:
    text = terminal_table(HEADER, [row_of(module("x" * 40 + "/12"), NOW)], frozenset({1}), width=70)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 70
    assert "".join(line.split("  ")[0].strip() for line in lines[1:]) == "https://tfhub.dev/google/" + "x" * 40 + "/12"
    for value in ("5.0 MB", "3 min ago", "28 d ago", "0123456789ab"):
        assert value in text


@pytest.mark.parametrize(
    ("width", "titles"),
    [
        (70, HEADER),
        (69, (*HEADER[:4], HEADER[5])),
        (63, (*HEADER[:4], HEADER[5])),
        (62, HEADER[:4]),
        (49, HEADER[:4]),
        (48, HEADER[:3]),
        (39, HEADER[:3]),
        (38, HEADER[:2]),
        (28, HEADER[:2]),
    ],
)
def test_a_narrow_terminal_drops_other_columns_before_it_cuts_a_handle(width: int, titles: tuple[str, ...]) -> None:
    name = "x" * 40 + "/12"
    lines = terminal_table(HEADER, [row_of(module(name), NOW)], RIGHT, SPARE, width=width).splitlines()
    assert max(map(len, lines)) <= width
    assert lines[0].split() == " ".join(titles).split()
    parts = [line.split("  ")[0].strip() for line in lines[1:]]
    assert "".join(parts) == "https://tfhub.dev/google/" + name
    assert len(parts[0]) >= 20


def test_on_a_terminal_that_is_far_too_narrow_the_table_is_plain() -> None:
    rows = [row_of(module("x"), NOW)]
    assert terminal_table(HEADER, rows, RIGHT, SPARE, width=27) == plain_table(HEADER, rows, RIGHT)


def test_a_handle_cannot_steer_the_terminal() -> None:
    assert "\x1b" not in row_of(module("\x1b]0;owned\x07"), NOW)[0]
    assert "[red]" in terminal_table(("HANDLE", "SIZE"), [("[red]", "1")], width=40)

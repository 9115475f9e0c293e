"""Who used a module lately is known, for a day, and for a bounded number of modules and users."""

from __future__ import annotations

from hubd.fetching.users import Users


def test_the_users_of_a_module_are_known_each_once() -> None:
    users = Users()
    for uid, key in ((7, "a"), (5, "a"), (7, "a"), (9, "b")):
        users.saw(uid, key)
    assert users.of("a") == [5, 7]
    assert users.of("b") == [9]
    assert users.of("c") == []


def test_a_user_is_forgotten_a_while_after_the_last_use() -> None:
    now = 0.0
    users = Users(seconds=10.0, clock=lambda: now)
    users.saw(5, "a")
    users.saw(7, "a")
    now = 9.0
    users.saw(5, "a")
    now = 10.0
    assert users.of("a") == [5]
    now = 19.0
    assert users.of("a") == []
    assert len(users) == 0


def test_of_too_many_the_oldest_are_forgotten() -> None:
    users = Users(max_entries=3)
    for number in range(5):
        users.saw(number, f"key {number % 2}")
    assert len(users) == 3
    assert users.of("key 0") == [2, 4]
    assert users.of("key 1") == [3]

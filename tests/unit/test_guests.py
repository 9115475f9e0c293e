"""One user leaves some of the daemon's connections to the others."""

from __future__ import annotations

import os

from hubd.api.guests import Guests

ALICE, BOB = 54301, 54302


def test_one_user_has_three_quarters_of_the_connections_at_most_and_others_the_rest() -> None:
    guests, present = Guests(), list[object]()

    def come(uid: int) -> bool:
        if not guests.may_come(uid, present, 8):
            return False
        guests.came(connection := object(), uid, present)
        present.append(connection)
        return True

    assert [come(ALICE) for _ in range(8)] == [True] * 6 + [False] * 2
    assert [come(BOB), come(ALICE), come(0), come(BOB)] == [True, False, True, False]
    del present[0]  # one of ALICE's has left
    assert come(ALICE)


def test_root_and_the_daemons_own_user_may_have_all() -> None:
    guests, present = Guests(), list[object]()
    for number in range(8):
        assert guests.may_come(os.geteuid() if number % 2 else 0, present, 8)
        guests.came(number, 0, present)
        present.append(number)
    assert not guests.may_come(0, present, 8)


def test_who_has_left_is_forgotten() -> None:
    guests = Guests()
    for number in range(10_000):
        guests.came(number, ALICE, [number])
    assert len(guests._uids) < 200

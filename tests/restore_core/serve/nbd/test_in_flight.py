"""The bound on what is in flight."""

from __future__ import annotations

import threading

from restore_core.serve.nbd.in_flight import ALWAYS, InFlight, Share


def test_a_client_waits_until_another_one_has_taken_its_replies() -> None:
    room, greedy, other = InFlight(100), Share(), Share()
    taken = room.enter(greedy, 100)
    assert taken == 100
    assert room.enter(other, 30) == 30, "one with nothing in flight is always served"
    got: list[int] = []
    waiting = threading.Thread(target=lambda: got.append(room.enter(other, 20)))
    waiting.start()
    room.leave(greedy, taken)
    waiting.join(20)
    assert got == [20]


def test_one_client_has_half_of_the_room_at_most_unless_one_request_is_larger() -> None:
    room, one, other = InFlight(100), Share(), Share()
    room.enter(one, 40)
    waiting = threading.Thread(target=lambda: room.enter(one, 20))
    waiting.start()
    assert room.enter(other, 60) == 60
    room.leave(one, 40)
    waiting.join(20)
    assert one.held == 20


def test_more_than_all_there_is_counts_as_all_there_is() -> None:
    room, one = InFlight(ALWAYS), Share()
    assert room.enter(one, 1 << 40) == ALWAYS


def test_a_client_that_ends_waits_no_longer() -> None:
    room, greedy, other = InFlight(ALWAYS * 4), Share(), Share()
    room.enter(greedy, ALWAYS * 4)
    got: list[int] = []
    waiting = threading.Thread(target=lambda: got.append(room.enter(other, ALWAYS + 1)))
    waiting.start()
    room.end(other)
    waiting.join(20)
    assert got == [0]
    room.leave(greedy, ALWAYS * 4)
    assert room.enter(Share(), ALWAYS * 4) == ALWAYS * 4, "nothing of it is left"

"""Clients of a real server on a real socket: good ones, hostile ones, and both at once."""

from __future__ import annotations

import random
import struct
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError

import pytest

from restore_core.errors import Stopped
from restore_core.serve.disk import ServedDisk
from restore_core.serve.frame_cache import Decoded
from restore_core.serve.nbd import client as client_module
from restore_core.serve.nbd import listener
from restore_core.serve.nbd.in_flight import InFlight
from restore_core.serve.nbd.messages import (
    MAX_OPTION,
    OPTION,
    OPTION_MAGIC,
    REQUEST,
    REQUEST_MAGIC,
    ChunkType,
    CommandFlag,
    NbdError,
    OptionType,
    RequestType,
)
from tests.lab import BLOCK
from tests.restore_core.serve.nbd.conftest import Running
from tests.restore_core.serve.nbd.raw_client import RawClient, info
from tests.restore_core.serve.served_lab import Served


@pytest.mark.parametrize("structured", [True, False])
def test_any_range_is_what_the_disk_holds(served: Served, running: Running, structured: bool) -> None:
    one, dice = running.client().go(structured=structured), random.Random(4)
    for flags in (0, CommandFlag.DF if structured else 0):
        for _ in range(60):
            at = dice.randrange(len(served.data) - 1)
            length = min(dice.choice((1, 512, 4096, BLOCK, 3 * BLOCK)), len(served.data) - at)
            assert one.read(at, length, flags).data == served.data[at : at + length]
    assert one.read(0, len(served.data)).data == served.data


def test_many_requests_at_once_are_all_answered_each_with_its_own_data(served: Served, running: Running) -> None:
    one, dice = running.client().go(structured=False), random.Random(5)
    places = [dice.randrange(len(served.data) - 4096) for _ in range(100)]
    for number, at in enumerate(places):
        one.ask(RequestType.READ, at, 4096, cookie=number)
    found = {}
    for _ in places:
        _, error, cookie = struct.unpack(">IIQ", one.received(16))
        assert not error
        found[cookie] = one.received(4096)
    assert [found[number] for number in range(100)] == [served.data[at : at + 4096] for at in places]


def test_a_client_that_says_goodbye_still_gets_what_it_asked_for(served: Served, running: Running) -> None:
    one = running.client().go(structured=False)
    places = range(0, 12 * BLOCK, BLOCK)
    for at in places:
        one.ask(RequestType.READ, at, BLOCK, cookie=at)
    one.ask(RequestType.DISC)
    found = {}
    for _ in places:
        cookie = struct.unpack(">IIQ", one.received(16))[2]
        found[cookie] = one.received(BLOCK)
    assert b"".join(found[at] for at in places) == served.data[: 12 * BLOCK]
    assert one.is_closed()


def test_a_write_is_refused_and_changes_nothing_and_the_next_request_is_served(served: Served, running: Running) -> None:
    one = running.client().go()
    for command, data in ((RequestType.WRITE, bytes(70_000)), (RequestType.TRIM, b""), (RequestType.WRITE_ZEROES, b"")):
        one.ask(command, 0, 70_000, data=data)
        assert one.reply().error == NbdError.EPERM
    assert one.read(0, 70_000).data == served.data[:70_000]


def test_flush_and_cache_succeed(served: Served, running: Running) -> None:
    one = running.client().go()
    one.ask(RequestType.FLUSH)
    assert one.reply() == (0, b"", ((ChunkType.NONE, b""),))
    one.ask(RequestType.CACHE, 0, len(served.data))
    assert one.reply().error == 0


def test_block_status_tells_the_zero_blocks(served: Served, running: Running) -> None:
    one = running.client().go()
    one.ask(RequestType.BLOCK_STATUS, 0, len(served.data))
    ((kind, body),) = one.reply().chunks
    numbers = struct.unpack(f">{len(body) // 4}I", body)
    at = 0
    for length, state in zip(numbers[1::2], numbers[2::2], strict=True):
        assert (state == 3) == (not served.data[at : at + length].strip(b"\0"))
        at += length
    assert (kind, numbers[0], at) == (ChunkType.BLOCK_STATUS, 1, len(served.data))
    one.ask(RequestType.BLOCK_STATUS, 0, len(served.data), flags=CommandFlag.REQ_ONE)
    assert len(one.reply().chunks[0][1]) == 12


def test_a_request_out_of_range_is_invalid_and_the_next_one_is_served(served: Served, running: Running) -> None:
    for one in (running.client().go(), running.client().go(structured=False)):
        for at, length in ((len(served.data), 1), (len(served.data) - 1, 2), (2**64 - 1, 2), (0, 0)):
            assert one.read(at, length).error == NbdError.EINVAL
        assert one.read(0, 1).data == served.data[:1]


@pytest.mark.parametrize("structured", [True, False])
def test_a_bad_block_is_eio_and_the_others_are_served(
    served: Served, serving: Callable[[ServedDisk], Running], structured: bool
) -> None:
    assert served.full is not None
    with served.open() as disk:
        served.flip(served.full, served.lab.path(served.full).stat().st_size - 40)
        running = serving(disk)
        one = running.client().go(structured=structured)
        assert one.read(12 * BLOCK + 5, 100).error == NbdError.EIO
        assert one.read(11 * BLOCK, 2 * BLOCK).error == NbdError.EIO
        assert one.read(0, 12 * BLOCK).data == served.data[: 12 * BLOCK]
        one.ask(RequestType.CACHE, 12 * BLOCK, 1)
        assert one.reply().error == 0, "a hint has no data that could be wrong"
        running.stop()


def test_a_map_that_cannot_be_read_is_eio(served: Served, serving: Callable[[ServedDisk], Running]) -> None:
    with served.open() as disk:
        served.lab.path(served.delta).write_bytes(b"")
        running = serving(disk)
        one = running.client().go()
        assert one.read(0, 1).error == NbdError.EIO
        one.ask(RequestType.BLOCK_STATUS, 0, 1)
        assert one.reply().error == NbdError.EIO
        running.stop()


BROKEN = {
    "flags": lambda one: one.socket.sendall(b"\xff\xff\xff\xff"),
    "garbage for an option": lambda one: one.socket.sendall(struct.pack(">I", 3) + b"GET / HTTP/1.1\r\n\r\n"),
    "an option that is too long": lambda one: one.socket.sendall(
        struct.pack(">I", 3) + OPTION.pack(OPTION_MAGIC, OptionType.GO, MAX_OPTION + 1)
    ),
    "an old export that is not there": lambda one: one.socket.sendall(
        struct.pack(">I", 3) + OPTION.pack(OPTION_MAGIC, OptionType.EXPORT_NAME, 1) + b"x"
    ),
    "garbage for a request": lambda one: one.go().socket.sendall(bytes(REQUEST.size)),
    "a write without end": lambda one: one.go().socket.sendall(REQUEST.pack(REQUEST_MAGIC, 0, RequestType.WRITE, 1, 0, 2**32 - 1)),
    "goodbye": lambda one: one.go().ask(RequestType.DISC),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_client_that_breaks_the_protocol_is_closed_and_others_are_served(served: Served, running: Running, broken: str) -> None:
    good, bad = running.client().go(), running.client()
    BROKEN[broken](bad)
    assert bad.is_closed()
    assert good.read(0, 10).data == served.data[:10]
    assert running.client().go().read(0, 10).data == served.data[:10]


def test_bytes_of_any_kind_never_end_the_server(served: Served, running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "MAX_HANDSHAKES", 100)  # those that left may not be gone yet
    dice = random.Random(6)
    for number in range(40):
        bad = running.client() if number % 2 else running.client().go()
        bad.socket.sendall(dice.randbytes(dice.randrange(1, 300)))
        bad.close()
    assert running.client().go().read(0, len(served.data)).data == served.data


def held(server: listener.NbdServer) -> int:
    in_flight = server._in_flight
    assert isinstance(in_flight, InFlight)
    return in_flight._held


def test_a_client_that_takes_no_reply_keeps_nobody_from_being_served(served: Served, running: Running) -> None:
    deaf = running.client().go(structured=False)
    asked = deaf.ask_until_nothing_is_read(RequestType.READ, 0, 3 * BLOCK)
    assert asked * 3 * BLOCK > held(running.server) > 0
    good = running.client().go()
    assert good.read(0, len(served.data)).data == served.data
    deaf.close()
    assert running.client().go().read(0, 1).data == served.data[:1]


def test_a_client_that_leaves_leaves_nothing_in_flight(running: Running) -> None:
    for _ in range(10):
        one = running.client().go()
        for at in range(0, 12 * BLOCK, 4096):
            one.ask(RequestType.READ, at, 4096)
        one.close()
    running.stop()
    assert held(running.server) == 0


def test_a_block_that_takes_long_holds_up_no_other(
    served: Served, running: Running, disk: ServedDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, fetch = threading.Event(), disk._units.fetch

    def slow(unit: object) -> Decoded:
        if unit == (True, 0):
            go_on.wait(20)
        return fetch(unit)  # type: ignore[arg-type]

    monkeypatch.setattr(disk._units, "fetch", slow)
    one = running.client().go(structured=False)
    one.ask(RequestType.READ, 0, 10, cookie=1)
    one.ask(RequestType.READ, 12 * BLOCK, 10, cookie=2)
    assert struct.unpack(">IIQ", one.received(16))[2] == 2
    assert one.received(10) == served.data[12 * BLOCK : 12 * BLOCK + 10]
    assert running.client().go().read(8 * BLOCK, 10).data == served.data[8 * BLOCK : 8 * BLOCK + 10]
    go_on.set()
    assert struct.unpack(">IIQ", one.received(16))[2] == 1


@pytest.mark.parametrize("error", [Stopped("the server ends"), CancelledError()])
def test_a_server_that_ends_answers_no_request_with_an_error(
    running: Running, disk: ServedDisk, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def over(_unit: object) -> Decoded:
        raise error

    monkeypatch.setattr(disk._units, "fetch", over)
    one = running.client().go()
    one.ask(RequestType.READ, 0, 10)
    assert one.socket.recv(100) == b""
    running.stop()
    assert held(running.server) == 0


def test_a_client_that_does_not_choose_is_closed_after_a_time(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "HANDSHAKE_SECONDS", 0.3)
    silent, slow = running.client(), running.client()
    slow.greet()
    slow.option(OptionType.INFO, info(""))
    assert silent.is_closed()
    assert slow.is_closed()


def test_those_who_do_not_choose_take_no_place_of_those_who_did(
    served: Served, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "MAX_HANDSHAKES", 3)
    good = running.client().go()
    assert good.read(0, 10).data == served.data[:10]  # now the server, too, knows that it has chosen
    waiting = [running.client() for _ in range(3)]
    for one in waiting:
        one.received(18)  # it has a thread
    assert running.client().is_closed()
    assert good.read(0, 10).data == served.data[:10]
    waiting[0].close()
    for one in waiting[1:]:
        one.socket.sendall(struct.pack(">I", 3))
        assert one.option(OptionType.GO, info(""))


def test_more_clients_than_there_is_room_for_are_closed(served: Served, running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "MAX_CLIENTS", 2)
    first, second = running.client().go(), running.client().go()
    assert first.read(0, 1).data == second.read(0, 1).data
    third = running.client()
    third.go()
    assert third.is_closed()
    assert first.read(0, 10).data == second.read(0, 10).data == served.data[:10]


def test_a_server_that_gets_no_thread_closes_the_new_client_and_serves_the_others(
    served: Served, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, start = running.client().go(), threading.Thread.start
    assert good.read(0, 10).data == served.data[:10]  # it has both of its threads

    def no_thread(thread: threading.Thread) -> None:
        if thread.name in refused:
            raise RuntimeError("can't start new thread")
        start(thread)

    refused = {"nbd-read"}
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    assert running.client().is_closed()
    refused = {"nbd-write"}
    half = running.client()
    half.go()
    assert half.is_closed()
    assert good.read(0, 10).data == served.data[:10]
    monkeypatch.undo()
    assert running.client().go().read(0, 10).data == served.data[:10]


def test_the_end_of_the_server_ends_its_clients(running: Running) -> None:
    clients: list[RawClient] = [running.client().go(), running.client()]
    running.stop()
    assert all(one.is_closed() for one in clients)
    assert not running.server._clients

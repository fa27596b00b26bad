"""The client of QEMU's monitor, against scripted monitors; a real QEMU answers it in the drill's tests."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import pytest

from phd_daemon.host import qmp
from phd_daemon.host.qmp import Qmp, QmpError

GREETING = b'{"QMP": {"version": {}, "capabilities": []}}\r\n'
OK = b'{"return": {}}\r\n'


def monitor(*answers: bytes, greeting: bytes = GREETING) -> tuple[socket.socket, list[dict[str, object]]]:
    """One end of a connection whose other end says these answers, one for each command; and the commands that came."""
    mine, theirs = socket.socketpair()
    asked: list[dict[str, object]] = []

    def serve() -> None:
        with theirs, theirs.makefile("rb") as lines:
            theirs.sendall(greeting)
            for answer in (OK, *answers):
                line = lines.readline()
                if not line:
                    return
                asked.append(json.loads(line))
                theirs.sendall(answer)
            lines.readline()

    threading.Thread(target=serve, daemon=True).start()
    return mine, asked


def test_a_command_returns_what_qemu_returns_and_events_before_it_are_kept() -> None:
    event = b'{"event": "STOP", "data": {}}\r\n{"event": "RESUME"}\r\n'
    mine, asked = monitor(event + b'{"return": {"status": "running"}}\r\n')
    with Qmp(mine) as to:
        assert to.execute("query-status", {"a": 1}) == {"status": "running"}
        assert [one["event"] for one in to.take_events()] == ["STOP", "RESUME"]
        assert to.take_events() == []
    assert asked == [{"execute": "qmp_capabilities"}, {"execute": "query-status", "arguments": {"a": 1}}]


def test_a_refusal_names_the_command_and_has_its_class() -> None:
    mine, _ = monitor(b'{"error": {"class": "DeviceNotFound", "desc": "no such\\u001b device"}}\n')
    with Qmp(mine) as to, pytest.raises(QmpError, match=r"refuses eject: no such%1B device") as caught:
        to.execute("eject")
    assert caught.value.kind == "DeviceNotFound"


def test_an_event_is_waited_for_and_others_stay_in_their_order() -> None:
    events = b'{"event": "A", "data": 1}\n{"event": "B", "data": 1}\n{"event": "B", "data": 2}\n'
    mine, _ = monitor(OK + events)
    with Qmp(mine) as to:
        to.execute("x")
        found = to.wait_for({"B"}, seconds=20, fits=lambda event: event["data"] == 2)
        assert found == {"event": "B", "data": 2}
        assert [(one["event"], one["data"]) for one in to.take_events()] == [("A", 1), ("B", 1)]
        assert to.wait_for({"A"}, seconds=0) is None


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"[]\n", "no JSON object"),
        (b"{\n", "no JSON"),
        (b"", "does not answer"),
        (b"x" * 3000, "more than 1000 bytes"),
    ],
)
def test_what_is_no_answer_is_an_error(monkeypatch: pytest.MonkeyPatch, answer: bytes, said: str) -> None:
    monkeypatch.setattr(qmp, "MAX_LINE", 1000)
    mine, _ = monitor(answer)
    with Qmp(mine) as to, pytest.raises(QmpError, match=said):
        to.execute("x", seconds=0.2 if not answer else 20)


def test_a_monitor_that_ends_is_said_so() -> None:
    mine, theirs = socket.socketpair()
    theirs.sendall(GREETING + OK)
    theirs.shutdown(socket.SHUT_WR)
    with theirs, Qmp(mine) as to, pytest.raises(QmpError, match="has ended"):
        to.execute("x")


def test_something_else_at_the_socket_is_no_monitor() -> None:
    mine, _ = monitor(greeting=b'{"hello": 1}\n')
    with mine, pytest.raises(QmpError, match="no monitor"):
        Qmp(mine)


def test_a_socket_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(QmpError, match=r"none\.sock: QEMU's monitor cannot be reached: No such file"):
        Qmp.at(tmp_path / "none.sock")


def test_it_connects_by_path(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "q"))
        listening.listen()

        def serve() -> None:
            connection, _ = listening.accept()
            with connection, connection.makefile("rb") as lines:
                connection.sendall(GREETING + OK + b'{"return": 7}\n')
                lines.readline()
                lines.readline()

        thread = threading.Thread(target=serve)
        thread.start()
        with Qmp.at(tmp_path / "q") as to:
            assert to.execute("x") == 7
        thread.join()

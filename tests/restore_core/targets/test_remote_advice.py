"""The advice about a server that does not serve depends on what came back from it."""

from __future__ import annotations

import errno
import socket

import pytest

from restore_core.targets.remote.connection import no_server

_SAYS = [
    (socket.gaierror(-2, "Name or service not known"), "name of the host"),
    (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "nothing listens"),
    (ConnectionResetError(errno.ECONNRESET, "reset"), "hangs up"),
    (EOFError(), "hangs up"),
    (OSError(errno.EHOSTUNREACH, "no route"), "ip route"),
    (TimeoutError(), "firewall"),
]


@pytest.mark.parametrize(("error", "says"), _SAYS)
def test_the_advice_is_about_what_came_back(error: Exception, says: str) -> None:
    remedy = no_server("nas1", "x", "SSH", error).remedy
    assert says in remedy


@pytest.mark.parametrize("error", [ConnectionRefusedError(), ConnectionResetError(), EOFError()])
def test_a_machine_that_answered_is_not_asked_about_whether_it_is_up(error: Exception) -> None:
    assert "Is that machine up" not in no_server("nas1", "x", "FTP", error).remedy

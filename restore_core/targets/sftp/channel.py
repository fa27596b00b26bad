"""A channel of an SSH connection on which SFTP is begun; what answers there may be something else."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from restore_core.errors import TargetRefused
from restore_core.naming import printable
from restore_core.targets.base import ServerLimits
from restore_core.targets.remote.connection import Pace, TooManyConnections
from restore_core.targets.sftp.wire import NotSftp, Wire

if TYPE_CHECKING:
    import paramiko

SMALL = 32 << 10
"""Every server must answer a read of this size (section 3 of the draft); larger ones only if it says so."""

_DYING = 0.5
"""Seconds in which a connection that breaks is known to be broken: it closes its channels first."""


class _Line:
    """The channel, with its pace measured."""

    def __init__(self, channel: paramiko.Channel, pace: Pace) -> None:
        self._channel, self._pace = channel, pace

    def recv(self, size: int) -> bytes:
        """Receives from the channel."""
        began = time.perf_counter()
        data: bytes = self._channel.recv(size)
        self._pace.moved(len(data), time.perf_counter() - began)
        return data

    def sendall(self, data: bytes) -> None:
        """Sends on the channel."""
        began = time.perf_counter()
        self._channel.sendall(data)
        if len(data) > SMALL // 2:  # requests are small and wait for nothing
            self._pace.moved(len(data), time.perf_counter() - began)


def open_channel(transport: paramiko.Transport, window: int, limits: ServerLimits, where: str) -> paramiko.Channel:
    """Opens a channel. Raises `TooManyConnections` where the server lets in no more on this connection, else paramiko's error."""
    from paramiko import ChannelException

    try:
        return transport.open_session(window_size=window, timeout=limits.login)
    except ChannelException as no:
        raise TooManyConnections(
            f"{where}: opens no more channels: {printable(no.text)}",
            remedy="Raise MaxSessions in its sshd_config, or let fewer jobs use it at a time.",
        ) from None


def begin_sftp(channel: paramiko.Channel, transport: paramiko.Transport, pace: Pace, where: str) -> Wire:
    """Begins SFTP. Raises `TargetRefused` where the connection stands and no SFTP server answers, else paramiko's error."""
    from paramiko import SSHException

    try:
        channel.invoke_subsystem("sftp")
        return Wire(_Line(channel, pace))
    except NotSftp as other:
        raise TargetRefused(
            f"{where}: what answers there is not an SFTP server: it says {printable(str(other))}",
            remedy="That user's login prints it (.bashrc, ForceCommand); 'Subsystem sftp internal-sftp' runs no shell.",
        ) from None
    except (SSHException, EOFError):
        transport.join(_DYING)
        if not transport.is_active():
            raise
        raise TargetRefused(
            f"{where}: lets this user in, and begins no SFTP for it",
            remedy="Is 'Subsystem sftp' in its sshd_config, and is its program there? The server's log says more.",
        ) from None

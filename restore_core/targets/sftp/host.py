"""The SSH connection of one target. Each channel on it is one `SftpConnection`. A login costs 0.1 s, a channel 1 ms."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from restore_core.errors import TargetUnavailable
from restore_core.targets.base import TargetSpec
from restore_core.targets.limits import Limits
from restore_core.targets.remote.pace import Bandwidth
from restore_core.targets.remote.server import Address
from restore_core.targets.sftp.connection import SftpConnection
from restore_core.targets.sftp.login import log_in

if TYPE_CHECKING:
    import paramiko


class SftpHost:
    """The SSH connection of one target; `connect` opens a channel on it, and the connection itself when there is none."""

    def __init__(self, spec: TargetSpec, address: Address, limits: Limits, bandwidth: Bandwidth) -> None:
        self._spec, self._address, self._limits, self._bandwidth = spec, address, limits, bandwidth
        self._lock = threading.Lock()
        self._client: paramiko.SSHClient | None = None

    def connect(self) -> SftpConnection:
        """Another channel. Raises the errors of `Target`."""
        with self._lock:
            transport = self._client.get_transport() if self._client else None
            if transport is None or not transport.is_active():
                self.close()
                self._client = log_in(self._spec, self._address, self._limits)
                transport = self._client.get_transport()
        if transport is None:
            raise TargetUnavailable(f"target {self._spec.name}: closed the connection")
        return SftpConnection(transport, self._spec, self._address, self._limits, self._bandwidth)

    def close(self) -> None:
        """End the SSH connection and with it all channels."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

"""Targets on an FTP server."""

from __future__ import annotations

from restore_core.targets.base import Address, ServerLimits, Stop, Target, TargetSpec
from restore_core.targets.ftp.connection import FtpConnection
from restore_core.targets.ftp.login import ask_identity
from restore_core.targets.remote.connection import Bandwidth
from restore_core.targets.remote.server import Pool, Server
from restore_core.targets.remote.target import RemoteTarget

__all__ = ["ask_identity", "open_target"]


def open_target(spec: TargetSpec, address: Address, limits: ServerLimits, stop: Stop | None) -> Target:
    """Returns a folder on an FTP server as a target. Its first call connects."""
    bandwidth = Bandwidth(spec.bandwidth)
    pool = Pool(spec.name, lambda: FtpConnection(spec, address, limits, bandwidth))
    return RemoteTarget(spec, Server(pool, limits, stop=stop), limits)

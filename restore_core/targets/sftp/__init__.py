"""Targets on an SSH server."""

from __future__ import annotations

from restore_core.targets.base import Address, ServerLimits, Stop, Target, TargetSpec
from restore_core.targets.remote.connection import Bandwidth
from restore_core.targets.remote.server import Pool, Server
from restore_core.targets.remote.target import RemoteTarget
from restore_core.targets.sftp.login import SftpHost, ask_identity

__all__ = ["ask_identity", "open_target"]


def open_target(spec: TargetSpec, address: Address, limits: ServerLimits, stop: Stop | None) -> Target:
    """Returns a folder on an SSH server as a target. Its first call connects."""
    host = SftpHost(spec, address, limits, Bandwidth(spec.bandwidth))
    return RemoteTarget(spec, Server(Pool(spec.name, host.connect, host.close), limits, stop=stop), limits)

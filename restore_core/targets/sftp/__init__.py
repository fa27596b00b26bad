"""Targets on an SSH server."""

from __future__ import annotations

import shlex

from restore_core.targets.base import Address, ServerLimits, Stop, Target, TargetSpec
from restore_core.targets.remote.connection import Bandwidth
from restore_core.targets.remote.server import Pool, Server
from restore_core.targets.remote.target import RemoteTarget
from restore_core.targets.sftp.login import SftpHost, ask_identity

__all__ = ["ask_identity", "open_target", "removal"]


def open_target(spec: TargetSpec, address: Address, limits: ServerLimits, stop: Stop | None) -> Target:
    """Returns a folder on an SSH server as a target. Its first call connects."""
    host = SftpHost(spec, address, limits, Bandwidth(spec.bandwidth))
    return RemoteTarget(spec, Server(Pool(spec.name, host.connect, host.close), limits, stop=stop), limits)


def removal(spec: TargetSpec, address: Address, path: str) -> str:
    """Returns the shell command that deletes a file there."""
    quoted = address.below(path).replace("\\", "\\\\").replace('"', '\\"')
    key = ["-i", spec.key_file] if spec.key_file else []
    known = ["-o", f"UserKnownHostsFile={spec.known_hosts}"] if spec.known_hosts else []
    host = f"[{address.host}]" if ":" in address.host else address.host
    sftp = shlex.join(["sftp", "-q", "-P", str(address.port), *key, *known, f"{address.user}@{host}"])
    line = shlex.quote(f'rm "{quoted}"')
    return f"printf '%s\\n' {line} | {sftp}"

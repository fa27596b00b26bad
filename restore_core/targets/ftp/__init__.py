"""Targets on an FTP server."""

from __future__ import annotations

import shlex
import urllib.parse

from restore_core.targets.base import Address, ServerLimits, Stop, Target, TargetSpec
from restore_core.targets.ftp.certificate import pinned_keys
from restore_core.targets.ftp.connection import FtpConnection
from restore_core.targets.ftp.login import ask_identity, speaks_tls_at_once
from restore_core.targets.remote.connection import Bandwidth
from restore_core.targets.remote.server import Pool, Server
from restore_core.targets.remote.target import RemoteTarget

__all__ = ["ask_identity", "open_target", "removal"]


def open_target(spec: TargetSpec, address: Address, limits: ServerLimits, stop: Stop | None) -> Target:
    """Returns a folder on an FTP server as a target. Its first call connects."""
    bandwidth = Bandwidth(spec.bandwidth)
    pool = Pool(spec.name, lambda: FtpConnection(spec, address, limits, bandwidth))
    return RemoteTarget(spec, Server(pool, limits, stop=stop), limits)


def removal(spec: TargetSpec, address: Address, path: str) -> str:
    """Returns the shell command that deletes a file there; curl asks for the password."""
    implicit = address.scheme == "ftps" and speaks_tls_at_once(address)
    tls = ["--ssl-reqd", *_proof(spec, address)] if address.scheme == "ftps" else []
    host = f"[{address.host}]" if ":" in address.host else address.host
    url = f"{'ftps' if implicit else 'ftp'}://{host}:{address.port}/"
    user = ["-u", urllib.parse.unquote(address.user)] if address.user else []
    return shlex.join(["curl", "-sS", *tls, *user, "-o", "/dev/null", "-Q", f"DELE {address.below(path)}", url])


def _proof(spec: TargetSpec, address: Address) -> list[str]:
    """Returns by what curl knows the server: the key of a pinned certificate, whatever its names and dates, else its authority."""
    if keys := pinned_keys(spec.ca_file, address):
        return ["--insecure", "--pinnedpubkey", ";".join(keys)]
    return ["--cacert", spec.ca_file] if spec.ca_file else []

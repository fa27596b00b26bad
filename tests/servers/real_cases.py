"""What administrators set on real FTP servers, and what must come of it: everything works, or one message says why it cannot."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from restore_core.errors import ExitCode
from restore_core.targets.base import TargetSpec
from tests.servers import Served, free_port, vsftpd
from tests.servers.unpacked_ftp import proftpd, pure_ftpd


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A server and its settings. `refused` are words of the message where no backup can be made to it."""

    server: Callable[..., AbstractContextManager[Served]]
    extra: Sequence[str] = ()
    tls: bool = False
    in_clear: bool = False
    """The target's URL says ftp, though the server demands TLS."""
    refused: str = ""
    code: ExitCode = ExitCode.UNAVAILABLE

    def start(self, folder: Any) -> AbstractContextManager[Served]:
        """Starts the server."""
        if self.server is vsftpd:
            return vsftpd(folder, tls=self.tls, extra=self.extra)
        return self.server(folder, *self.extra, tls=self.tls)

    def spec(self, served: Served) -> TargetSpec:
        """The target, as the configuration has it."""
        if not self.in_clear:
            return served.spec
        return dataclasses.replace(served.spec, url=served.spec.url.replace("ftps:", "ftp:"))


def _pro(*extra: str, **more: Any) -> Case:
    return Case(server=proftpd, extra=extra, **more)


def _pure(*extra: str, **more: Any) -> Case:
    return Case(server=pure_ftpd, extra=extra, **more)


def _vs(*extra: str, **more: Any) -> Case:
    return Case(server=vsftpd, extra=extra, **more)


_PORT = free_port()
_HIDDEN = ("<Directory />", r"HideFiles ^\.", "</Directory>", "<Limit ALL>", "IgnoreHidden on", "</Limit>")
_NO_ROOM = "there is no room on the target"

CASES: dict[str, Case] = {
    "proftpd": _pro(),
    "proftpd TLS, one connection a user, chroot": _pro("MaxClientsPerUser 1", "DefaultRoot ~", tls=True),
    "proftpd TLS, asked in clear": _pro(tls=True, in_clear=True, refused="Write ftps://"),
    "proftpd one connection": _pro("MaxClients 1"),
    "proftpd one connection a host": _pro("MaxClientsPerHost 1"),
    "proftpd one line a host": _pro("MaxConnectionsPerHost 1"),
    "proftpd read-only": _pro("<Limit WRITE>", "DenyAll", "</Limit>", refused="Permission denied"),
    "proftpd chroot": _pro("DefaultRoot ~"),
    "proftpd two ports": _pro(f"PassivePorts {_PORT} {_PORT + 1}"),
    "proftpd dotfiles hidden, no UTF8": _pro(*_HIDDEN, "UseEncoding off"),
    "proftpd ASCII": _pro("DefaultTransferMode ascii"),
    "proftpd small files only": _pro("MaxStoreFileSize 100 Kb", refused=_NO_ROOM, code=ExitCode.DESTINATION),
    "proftpd sends small files only": _pro("MaxRetrieveFileSize 100 Kb", refused="the server answers: 426 Transfer aborted."),
    "proftpd no REST": _pro("AllowStoreRestart off", "AllowRetrieveRestart off"),
    "proftpd no MLSD in FEAT": _pro("FactsAdvertise off"),
    "proftpd no MLSD by a limit": _pro("<Limit MLSD>", "DenyAll", "</Limit>"),
    "proftpd tells no SIZE": _pro("<Limit SIZE MDTM>", "DenyAll", "</Limit>"),
    "proftpd no renaming": _pro("<Limit RNFR RNTO>", "DenyAll", "</Limit>", refused="all of it was sent, and renaming it failed"),
    "proftpd no renaming, no deleting": _pro("<Limit RNFR RNTO DELE>", "DenyAll", "</Limit>", refused="its part file stays there"),
    "pure-ftpd": _pure(),
    "pure-ftpd TLS": _pure(tls=True),
    "pure-ftpd TLS, asked in clear": _pure(tls=True, in_clear=True, refused="Write ftps://"),
    "pure-ftpd one connection": _pure("-c", "1"),
    "pure-ftpd one connection a host": _pure("-C", "1"),
    "pure-ftpd one connection a user, no dotfiles": _pure("-y", "1:1", "-x", "-X"),
    "pure-ftpd two ports": _pure("-p", f"{_PORT}:{_PORT + 1}"),
    "pure-ftpd full": _pure("-k", "1", refused=_NO_ROOM, code=ExitCode.DESTINATION),
    "pure-ftpd quota": _pure("-n", "10:0", refused=_NO_ROOM, code=ExitCode.DESTINATION),
    "pure-ftpd listings cut": _pure("-L", "3:3", refused="Output truncated to 3 matches"),
    "pure-ftpd no renaming": _pure("-G", refused="all of it was sent, and renaming it failed"),
    "pure-ftpd new names for known ones": _pure("-r"),
    "pure-ftpd no deleting": _pure("-K"),
    "vsftpd one connection": _vs("max_clients=1"),
    "vsftpd one connection a host": _vs("max_per_ip=1"),
    "vsftpd read-only": _vs("write_enable=NO", refused="Permission denied"),
    "vsftpd one port": _vs(f"pasv_min_port={_PORT}", f"pasv_max_port={_PORT}"),
    "vsftpd no dotfiles": _vs("deny_file={.*}", "hide_file={.*}"),
    "vsftpd TLS, its sessions reused": _vs("require_ssl_reuse=YES", tls=True),
    "vsftpd TLS, asked in clear": _vs(tls=True, in_clear=True, refused="Write ftps://"),
    "vsftpd no PASV": _vs("pasv_enable=NO", refused="opens no port for data"),
    "vsftpd no renaming": _vs("anon_other_write_enable=NO", refused="Permission denied"),
    "vsftpd no folders": _vs("anon_mkdir_write_enable=NO", refused="Permission denied"),
}
"""By name."""

"""Backup targets: places where archives lie as plain files. `base` holds the contract, one module a kind."""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Mapping

from restore_core.errors import ArchiveAbsent, ConfigurationError
from restore_core.naming import unprintable
from restore_core.targets.base import LOCAL, ArchiveRef, ByteSource, Target, TargetSpec
from restore_core.targets.limits import DEFAULT, Limits
from restore_core.targets.local import LocalTarget, open_local_file
from restore_core.targets.remote.interruptible import Stop
from restore_core.targets.remote.pace import Bandwidth
from restore_core.targets.remote.retry import Retrying
from restore_core.targets.remote.server import Pool, address_of
from restore_core.targets.remote.target import RemoteTarget


def _ftp(spec: TargetSpec, limits: Limits, stop: Stop | None) -> Target:
    from restore_core.targets.ftp.connection import FtpConnection

    address, bandwidth = address_of(spec), Bandwidth(spec.bandwidth)
    return _remote(spec, limits, stop, Pool(spec.name, lambda: FtpConnection(spec, address, limits, bandwidth)))


def _sftp(spec: TargetSpec, limits: Limits, stop: Stop | None) -> Target:
    from restore_core.targets.sftp.host import SftpHost

    host = SftpHost(spec, address_of(spec), limits, Bandwidth(spec.bandwidth))
    return _remote(spec, limits, stop, Pool(spec.name, host.connect, host.close))


def _remote(spec: TargetSpec, limits: Limits, stop: Stop | None, pool: Pool) -> Target:
    return RemoteTarget(spec, Retrying(pool, limits, stop=stop), limits)


KINDS: Mapping[str, Callable[[TargetSpec, Limits, Stop | None], Target]] = {
    "file": lambda spec, _limits, _stop: LocalTarget(spec),
    "ftp": _ftp,
    "ftps": _ftp,
    "sftp": _sftp,
}
"""URL scheme -> how its target is put together: connections, pooled, tried again, made a `Target`."""


class TargetSet:
    """The configured targets of one process, opened when first used. Not shared between processes.

    `stop` is heeded while a server is waited for, by targets opened after it was given: only for work that is to leave at once.
    """

    def __init__(self, specs: tuple[TargetSpec, ...], limits: Limits = DEFAULT, *, stop: Stop | None = None) -> None:
        self.specs = {spec.name: spec for spec in specs}
        self.limits = limits
        self.stop = stop
        self._open: dict[str, Target] = {}

    def __getitem__(self, name: str) -> Target:
        if name not in self._open:
            if name not in self.specs:
                known = ", ".join(sorted(self.specs)) or "none"
                raise ArchiveAbsent(f"no target is named {name!r}; configured: {known}", remedy="Add [targets.NAME] to phd.toml.")
            self._open[name] = make_target(self.specs[name], self.limits, self.stop)
        return self._open[name]

    def open(self, ref: ArchiveRef) -> ByteSource:
        """The archive behind a reference."""
        return open_local_file(ref.path) if ref.target == LOCAL else self[ref.target].open(ref.path)

    def close(self) -> None:
        """Leave every target."""
        for target in self._open.values():
            target.close()
        self._open.clear()


def make_target(spec: TargetSpec, limits: Limits = DEFAULT, stop: Stop | None = None) -> Target:
    """The target behind a URL; `ConfigurationError` for a scheme nobody serves."""
    scheme = urllib.parse.urlsplit(spec.url).scheme
    if scheme not in KINDS:
        raise ConfigurationError(
            f"targets.{spec.name}.url: {scheme or 'no scheme'}: this version serves {', '.join(sorted(KINDS))}",
            remedy="Write file:///folder, sftp://user@host/folder, ftps://user@host/folder or ftp://user@host/folder.",
        )
    return KINDS[scheme](spec, limits, stop)


def parse_ref(text: str) -> ArchiveRef:
    """`NAME:path` or `/path`, with `%HH` for bytes that cannot be printed; `ValueError` for anything else."""
    if text.startswith("/"):
        return ArchiveRef(target=LOCAL, path=unprintable(text))
    name, colon, path = text.partition(":")
    if not colon or not path or not name or path.startswith("/"):
        raise ValueError(f"{text!r} is neither NAME:folder/file nor a path that starts with /")
    return ArchiveRef(target=name, path=unprintable(path))

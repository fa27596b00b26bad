"""Servers that many tests share, one of each kind for the whole run, and limits that make a test wait seconds, not minutes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from restore_core.targets.base import ServerLimits, TargetSpec
from tests import servers
from tests.servers import Served

QUICK = ServerLimits(connect=10.0, login=10.0, idle=10.0, tries=3, first_pause=0.05, longest_pause=0.1)
HASTY = ServerLimits(connect=1.5, login=2.0, idle=1.0, rate_window=0.6, tries=2, first_pause=0.05, longest_pause=0.1)
"""For servers that will not answer. A loaded machine may need more than this for those that do."""

KINDS: dict[str, Callable[[Path], AbstractContextManager[Served]]] = {
    "sftp": servers.sshd,
    "sftp-password": servers.ssh_password,
    "ftp-vsftpd": servers.vsftpd,
    "ftp-pyftpd": servers.pyftpd,
    "ftps-vsftpd": lambda folder: servers.vsftpd(folder, tls=True),
    "ftps-pyftpd": lambda folder: servers.pyftpd(folder, tls=True),
}


def started(kind: str) -> Iterator[Served]:
    """A server of a kind, in a folder of its own; skips, loudly, where its program is not installed."""
    # Not pytest's folder: a path in it is too long for some servers' configuration.
    with tempfile.TemporaryDirectory(prefix="phd-") as folder:
        try:
            with KINDS[kind](Path(folder)) as served:
                yield served
        except servers.Missing as missing:
            pytest.skip(str(missing))


@pytest.fixture(scope="session")
def sftp() -> Iterator[Served]:
    yield from started("sftp")


@pytest.fixture(scope="session")
def sftp_password() -> Iterator[Served]:
    yield from started("sftp-password")


@pytest.fixture(scope="session")
def vsftpd() -> Iterator[Served]:
    yield from started("ftp-vsftpd")


@pytest.fixture(scope="session")
def pyftpd() -> Iterator[Served]:
    yield from started("ftp-pyftpd")


@pytest.fixture(scope="session")
def vsftpd_tls() -> Iterator[Served]:
    yield from started("ftps-vsftpd")


@pytest.fixture(scope="session")
def pyftpd_tls() -> Iterator[Served]:
    yield from started("ftps-pyftpd")


@pytest.fixture(params=["file", "sftp", "sftp_password", "vsftpd", "pyftpd", "vsftpd_tls", "pyftpd_tls"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[TargetSpec, Path]]:
    """Each kind of target, empty: what it is made from, and its folder on this machine."""
    if request.param == "file":
        yield TargetSpec(name="file", url=f"file://{tmp_path}"), tmp_path
        return
    served: Served = request.getfixturevalue(request.param)
    emptied(served.store)  # other tests share the server
    yield served.spec, served.store
    emptied(served.store)


def emptied(folder: Path) -> None:
    """Deletes all that is in a folder."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            emptied(path)
            path.rmdir()
        else:
            path.unlink()

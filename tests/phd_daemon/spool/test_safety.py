"""Which folders may be a spool."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from phd_daemon.spool import safety
from phd_daemon.spool.layout import Spool
from phd_daemon.spool.safety import check_spool, file_system
from restore_core.errors import ConfigurationError


def check(folder: Path) -> None:
    check_spool(Spool(folder=folder))


def test_good(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    check(tmp_path)
    assert (tmp_path / ".state").stat().st_mode & 0o777 == 0o700
    check(tmp_path)


def test_absent_or_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        check(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="is not a folder"):
        check(tmp_path / "file")


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_others_may_write(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(ConfigurationError, match="may be written by others"):
        check(tmp_path)
    tmp_path.chmod(mode | 0o1000)
    check(tmp_path)


def test_foreign_owner(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away: a foreign spool was not tried")
    os.chown(tmp_path, 12345, -1)
    with pytest.raises(ConfigurationError, match="belongs to user 12345"):
        check(tmp_path)


def test_state_folder_that_is_a_link_or_open(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".state").symlink_to("elsewhere")
    with pytest.raises(ConfigurationError, match="not a folder of the daemon alone"):
        check(tmp_path)
    (tmp_path / ".state").unlink()
    (tmp_path / ".state").mkdir()
    (tmp_path / ".state").chmod(0o777)
    with pytest.raises(ConfigurationError, match="not a folder of the daemon alone"):
        check(tmp_path)


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "9p"])
def test_network_file_systems(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safety, "file_system", lambda _path: kind)
    tmp_path.chmod(0o700)
    with pytest.raises(ConfigurationError, match=f"network file system .{kind}"):
        check(tmp_path)


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs", "tmpfs", "fuseblk", "overlay"])
def test_local_file_systems(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safety, "file_system", lambda _path: kind)
    tmp_path.chmod(0o700)
    check(tmp_path)


def test_what_this_machine_says() -> None:
    assert file_system(Path("/proc/self")) == "proc"
    assert file_system(Path("/")) not in ("", "proc")

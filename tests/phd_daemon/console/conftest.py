"""A session with one target of a small machine, a datastore, and a spool that nobody serves."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from phd_daemon.console.session import Session
from tests.phd_daemon.small_backup import SmallBackup, small_backup


@dataclass(frozen=True)
class Place:
    """The installation behind a session."""

    folder: Path
    backup: SmallBackup
    session: Session

    @property
    def datastore(self) -> Path:
        return self.folder / "volumes" / "ISCSI02"

    @property
    def spool(self) -> Path:
        return self.folder / "spool"

    @property
    def disk(self) -> Path:
        """Where Enter alone leads to."""
        return self.datastore / "CRM" / "CRM.vmdk"

    def restored(self) -> bytes:
        return self.disk.with_name("CRM-flat.vmdk").read_bytes()


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> SmallBackup:
    return small_backup(tmp_path_factory.mktemp("made") / "nas")


@pytest.fixture
def place(tmp_path: Path, made: SmallBackup) -> Iterator[Place]:
    shutil.copytree(made.full_path.parents[1], tmp_path / "nas")
    backup = replace(made, delta_path=tmp_path / "nas" / made.delta.path, full_path=tmp_path / "nas" / made.full.path)
    (tmp_path / "volumes" / "ISCSI02").mkdir(parents=True)
    (tmp_path / "spool").mkdir(mode=0o700)
    config = tmp_path / "phd.toml"
    config.write_text(
        f'state_dir = "{tmp_path}/state"\n[queue]\nspool = "{tmp_path}/spool"\n'
        f'[replication]\nrules = "{tmp_path}/vmdks.auto"\nledger = "{tmp_path}/restored.log"\n'
        f'default_datastore = "{tmp_path}/volumes/ISCSI02"\n'
        f'[datastores]\nroots = ["{tmp_path}/volumes"]\n[targets.nas1]\nurl = "file://{tmp_path}/nas"\n'
    )
    with closing(Session(config)) as session:
        yield Place(folder=tmp_path, backup=backup, session=session)

"""A disk served from each kind of target, and from two of them when one does not answer."""

from __future__ import annotations

import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from restore_core.errors import TargetUnavailable, TryAgainLater
from restore_core.serve.disk import DiskRequest, new_cache, open_served_disk
from restore_core.serve.unit_source import Damage
from restore_core.targets import TargetSet
from restore_core.targets.base import ArchiveRef, TargetSpec
from tests import servers
from tests.lab import Lab
from tests.phd_daemon.serving import phd_serve
from tests.restore_core.serve.nbd.raw_client import RawClient
from tests.restore_core.serve.served_lab import Served
from tests.restore_core.targets.conftest import HASTY, QUICK, emptied
from tests.restore_core.targets.test_end_to_end import table
from tests.servers import Served as Server

SOON = replace(HASTY, connect=5.0, login=5.0, idle=2.0)
"""For a server that is asked while it answers, on a loaded machine, too, and later is silent."""


@pytest.fixture
def backup(tmp_path: Path) -> Served:
    return Served(Lab(tmp_path / "lab"))


def test_random_reads_give_the_right_bytes_from_every_kind_of_target(place: tuple[TargetSpec, Path], backup: Served) -> None:
    spec, store = place
    shutil.copytree(backup.lab.store, store, dirs_exist_ok=True)
    dice = random.Random(8)
    ranges = [(dice.randrange(len(backup.data)), dice.choice((1, 4096, 300_000))) for _ in range(40)]
    targets = TargetSet((spec,), QUICK)
    delta = ArchiveRef(target=spec.name, path=backup.delta.path)
    with open_served_disk(DiskRequest(delta=delta), targets, reporter=backup.lab.witness) as disk:
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda one: disk.read(*one), ranges))
        assert found == [backup.data[at : at + length] for at, length in ranges]
        assert disk.read(0, disk.size) == backup.data
    targets.close()


@pytest.mark.parametrize("twin", [False, True])
def test_while_a_server_is_silent_a_twin_elsewhere_is_read_and_without_one_reads_fail(
    backup: Served, tmp_path: Path, twin: bool
) -> None:
    assert backup.full is not None
    near, lab = tmp_path / "near", backup.lab
    shutil.copytree(lab.store, near)
    (near / backup.full.path).unlink()
    with servers.pyftpd(tmp_path) as server:
        shutil.copytree(lab.store, server.store, dirs_exist_ok=True)
        near_spec, twin_spec = (TargetSpec(name=name, url=f"file://{tmp_path}/{name}") for name in ("near", "twin"))
        targets = TargetSet((near_spec, server.spec, *([twin_spec] if twin else [])), SOON)
        if twin:
            shutil.copytree(lab.store, tmp_path / "twin")
        request, cache = DiskRequest(delta=ArchiveRef(target="near", path=backup.delta.path)), new_cache(1)
        with open_served_disk(request, targets, reporter=lab.witness, cache=cache) as disk:
            assert disk.full is not None
            assert disk.full.target == "ftp"
            server.pause()
            if not twin:
                with pytest.raises((TargetUnavailable, TryAgainLater)):
                    disk.read(0, 1)
            else:
                assert disk.read(0, disk.size) == backup.data
            server.go_on()
            assert disk.read(0, disk.size) == backup.data
            assert disk.damage == Damage()
        assert [note for note in lab.witness.notes if "does not answer" in note]
        cache.close()
        targets.close()


def test_the_confined_command_serves_from_a_server(sftp: Server, backup: Served, tmp_path: Path) -> None:
    shutil.copytree(backup.lab.store, sftp.store, dirs_exist_ok=True)
    settings = table(sftp.spec, "nas")
    with phd_serve(tmp_path, f"nas:{backup.delta.path}", "--sock", tmp_path / "s.sock", settings=settings) as serving:
        client = RawClient.on(tmp_path / "s.sock").go()
        assert client.read(0, len(backup.data)).data == backup.data
        client.close()
        assert serving.end() == 0
    emptied(sftp.store)

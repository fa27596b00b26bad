from __future__ import annotations

import datetime as dt
import gzip
import os
import time
from unicodedata import normalize

from restore_core import naming
from restore_core.backup.adopt import adopt_full, disk_of
from restore_core.backup.subject import Asked
from restore_core.targets.base import ArchiveRef
from tests.lab import UUID, Lab


def test_whose_disk_an_adopted_gzip_is() -> None:
    ours = disk_of(ArchiveRef(target="t", path=f"2026.01.02-WEB.{UUID}/010-web.vmdk.gz-260102-0300.phd"), Asked())
    assert (ours.vm, ours.uuid, ours.scsi, ours.disk) == ("WEB", UUID, "010", "web.vmdk")
    other = disk_of(ArchiveRef(target="", path="/srv/images/web.img.gz"), Asked())
    assert (other.vm, other.scsi, other.disk, len(other.uuid)) == ("images", "00", "web.img", 36)
    said = disk_of(ArchiveRef(target="t", path="web.gz"), Asked(vm="X", uuid=UUID, scsi="11"))
    assert (said.vm, said.uuid, said.scsi, said.disk) == ("X", UUID, "11", "web")


def test_a_gzip_of_a_flat_file_is_of_its_disk() -> None:
    """Its empty Delta was of a disk `web-flat.vmdk`, a name that no disk can have."""
    found = disk_of(ArchiveRef(target="", path="/srv/images/web-flat.vmdk.gz"), Asked())
    assert found.disk == "web.vmdk"
    named = disk_of(ArchiveRef(target="t", path=f"2026.01.02-WEB.{UUID}/00-web-flat.vmdk.gz-260102-0300.phd"), Asked())
    assert named.disk == "web-flat.vmdk"  # the Delta of such a name is found by the Full's


def test_a_gzip_whose_time_lies_in_the_future_is_adopted_as_of_now(lab: Lab) -> None:
    path = lab.store / f"2026.01.02-WEB.{UUID}" / "web.gz"
    path.parent.mkdir()
    path.write_bytes(gzip.compress(b"x" * 5000))
    os.utime(path, (time.time() + 90000, time.time() + 90000))
    ref = ArchiveRef(target="t", path=f"{path.parent.name}/web.gz")
    made = adopt_full(ref, lab.targets, Asked(), scratch=lab.folder, tick=lambda _: None)
    name = naming.parse_archive(made.name)
    assert name is not None
    assert name.stamp.replace(tzinfo=dt.UTC) <= dt.datetime.now(dt.UTC)
    assert lab.restored(made) == b"x" * 5000


def test_the_map_of_a_gzip_that_is_named_in_the_other_spelling_lies_beside_it(lab: Lab) -> None:
    path = lab.store / normalize("NFD", f"2026.01.02-Büro.{UUID}") / "web.gz"
    path.parent.mkdir()
    path.write_bytes(gzip.compress(b"x" * 5000))
    typed = ArchiveRef(target="t", path=normalize("NFC", f"{path.parent.name}/web.gz"))
    made = adopt_full(typed, lab.targets, Asked(), scratch=lab.folder, tick=lambda _: None)
    assert {file.name for file in path.parent.iterdir()} == {"web.gz", made.name}

from __future__ import annotations

from restore_core.backup.adopt import disk_of
from restore_core.backup.subject import Asked
from restore_core.targets.base import ArchiveRef
from tests.lab import UUID


def test_whose_disk_an_adopted_gzip_is() -> None:
    ours = disk_of(ArchiveRef(target="t", path=f"2026.01.02-WEB.{UUID}/010-web.vmdk.gz-260102-0300.phd"), Asked())
    assert (ours.vm, ours.uuid, ours.scsi, ours.disk) == ("WEB", UUID, "010", "web.vmdk")
    other = disk_of(ArchiveRef(target="", path="/srv/images/web.img.gz"), Asked())
    assert (other.vm, other.scsi, other.disk, len(other.uuid)) == ("images", "00", "web.img", 36)
    said = disk_of(ArchiveRef(target="t", path="web.gz"), Asked(vm="X", uuid=UUID, scsi="11"))
    assert (said.vm, said.uuid, said.scsi, said.disk) == ("X", UUID, "11", "web")

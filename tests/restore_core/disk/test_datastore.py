"""Which disk lies under a datastore's name: on real ext4, XFS, tmpfs, bind mounts and overlay."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from restore_core import mounts
from restore_core.disk import known_datastores
from restore_core.disk.datastore import MARKER, DatastoreFacts, FileSystem, Standing, compare, datastore_of, facts_of_datastore
from restore_core.disk.destination import open_destination
from restore_core.disk.known_datastores import DatastoreRecord, accept, forget, learn, read_datastores, refuse_unless_known
from restore_core.errors import ExitCode, TryAgainLater, WrongDatastore
from tests.mounting import image, mount, unmount, unmount_all_below
from tests.proof.volumes import fill
from tests.starved import no_file_more

EXT4 = FileSystem(type="ext4", uuid="1", fsid="a", source="/dev/sda", folder="/")
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


class Place:
    """A root with a datastore, and the record."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.root = folder, folder / "volumes"
        self.store = self.root / "DS1"
        self.store.mkdir(parents=True)
        (folder / "state").mkdir()
        self.record = DatastoreRecord(file=folder / "state" / ".datastores.json", roots=(self.root,))
        self.disk = self.store / "vm" / "CRM.vmdk"

    def learn(self) -> Standing:
        return learn(self.store, self.record)

    def refused(self) -> WrongDatastore:
        """By the function itself, and by a restore that opens its destination: nothing was made."""
        before = sorted(self.store.rglob("*")) if self.store.exists() else None
        with pytest.raises(WrongDatastore) as found:
            refuse_unless_known(self.disk, self.record)
        with pytest.raises(WrongDatastore):
            open_destination(self.disk, roots=(self.root,), make_folders=True, datastores=self.record)
        assert (sorted(self.store.rglob("*")) if self.store.exists() else None) == before
        return found.value

    def not_refused(self) -> None:
        refuse_unless_known(self.disk, self.record)
        open_destination(self.disk, roots=(self.root,), make_folders=True, datastores=self.record).close()

    @property
    def known(self) -> DatastoreFacts:
        return read_datastores(self.record.file)[str(self.store)]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    yield Place(tmp_path)
    unmount_all_below(tmp_path)


@pytest.mark.parametrize(
    ("recorded", "now", "expected"),
    [
        (None, DatastoreFacts(marker=None, file_system=EXT4), Standing.NEW),
        (DatastoreFacts(marker="m", file_system=EXT4), DatastoreFacts(marker="m", file_system=EXT4), Standing.BOTH),
        (DatastoreFacts(marker="m", file_system=EXT4), DatastoreFacts(marker=None, file_system=EXT4), Standing.FILE_SYSTEM),
        (DatastoreFacts(marker="m", file_system=EXT4), DatastoreFacts(marker="n", file_system=EXT4), Standing.FILE_SYSTEM),
        (DatastoreFacts(marker=None, file_system=EXT4), DatastoreFacts(marker=None, file_system=EXT4), Standing.FILE_SYSTEM),
    ],
)
def test_compare(recorded: DatastoreFacts | None, now: DatastoreFacts, expected: Standing) -> None:
    assert compare(recorded, now) is expected


def test_two_that_have_no_marker_have_not_the_same_one() -> None:
    other = FileSystem(type="ext4", uuid="2", fsid="b", source="/dev/sda", folder="/")
    assert compare(DatastoreFacts(marker=None, file_system=EXT4), DatastoreFacts(marker=None, file_system=other)) is Standing.OTHER
    assert compare(DatastoreFacts(marker="m", file_system=EXT4), DatastoreFacts(marker=None, file_system=other)) is Standing.OTHER
    assert compare(DatastoreFacts(marker="m", file_system=EXT4), DatastoreFacts(marker="m", file_system=other)) is Standing.MARKER


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({}, True),
        ({"source": "/dev/sdb", "fsid": "c"}, True),
        ({"uuid": "2"}, False),
        ({"uuid": "", "source": "/dev/sdb"}, True),
        ({"uuid": "", "fsid": "b"}, False),
        ({"uuid": "", "fsid": "", "source": "/dev/sdb"}, False),
        ({"folder": "/srv"}, False),
        ({"type": "xfs"}, False),
    ],
)
def test_the_same_file_system(changes: dict[str, str], same: bool) -> None:
    fields = {name: getattr(EXT4, name) for name in ("type", "uuid", "fsid", "source", "folder")}
    assert EXT4.same(FileSystem(**{**fields, **changes})) is same


def test_a_share_is_known_by_its_source() -> None:
    one = FileSystem(type="nfs4", uuid="", fsid="a", source="nas:/export", folder="/")
    assert one.same(FileSystem(type="nfs4", uuid="", fsid="b", source="nas:/export", folder="/"))
    assert not one.same(FileSystem(type="nfs4", uuid="", fsid="a", source="nas:/other", folder="/"))


def test_datastore_of() -> None:
    roots = (Path("/vmfs/volumes"), Path("/srv"), Path("/srv/more"))
    assert datastore_of(Path("/vmfs/volumes/A/b/c.vmdk"), roots) == Path("/vmfs/volumes/A")
    assert datastore_of(Path("/srv/more/A/c.vmdk"), roots) == Path("/srv/more/A")
    assert datastore_of(Path("/vmfs/other/c.vmdk"), roots) is None


def test_a_plain_folder_that_was_always_one(place: Place) -> None:
    place.not_refused()
    assert place.learn() is Standing.NEW
    assert place.learn() is Standing.BOTH
    place.not_refused()
    text = (place.store / MARKER).read_text()
    assert place.known.marker is not None
    assert place.known.marker in text
    assert stat.S_IMODE((place.store / MARKER).stat().st_mode) == 0o644
    assert stat.S_IMODE(place.record.file.stat().st_mode) == 0o600


def test_the_marker_can_be_read_by_all_whatever_the_umask(place: Place) -> None:
    old = os.umask(0o077)
    try:
        place.learn()
    finally:
        os.umask(old)
    assert stat.S_IMODE((place.store / MARKER).stat().st_mode) == 0o644


@root_only
@pytest.mark.parametrize("kind", ["ext4", "xfs", "tmpfs"])
def test_unmounted_after_it_was_used(place: Place, kind: str) -> None:
    """The datastore's mount is gone, and the restore filled the file system below it."""
    options = ["-t", "tmpfs", "none"] if kind == "tmpfs" else ["-o", "loop", str(image(place.folder / "disk", kind))]
    mount(place.store, *options)
    assert place.learn() is Standing.NEW
    place.not_refused()
    unmount(place.store)
    error = place.refused()
    assert (error.exit_code, error.try_again) == (ExitCode.DESTINATION, True)
    assert "phd datastores accept DS1" in error.remedy
    assert str(place.known.marker) in error.message
    assert list(place.store.iterdir()) == []
    with pytest.raises(WrongDatastore):
        place.learn()
    if kind != "tmpfs":
        mount(place.store, *options)
        assert place.learn() is Standing.BOTH
        place.not_refused()


@root_only
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_another_disk_of_the_same_kind_in_its_place(place: Place, kind: str) -> None:
    mount(place.store, "-o", "loop", str(image(place.folder / "one", kind)))
    place.learn()
    unmount(place.store)
    mount(place.store, "-o", "loop", str(image(place.folder / "two", kind)))
    place.refused()
    accept(place.store, place.record)
    place.not_refused()
    assert place.learn() is Standing.BOTH
    unmount(place.store)
    place.refused()
    mount(place.store, "-o", "loop", str(place.folder / "one"))
    place.refused()


@root_only
def test_copied_to_another_disk_it_is_known_by_its_marker(place: Place) -> None:
    mount(place.store, "-o", "loop", str(image(place.folder / "one")))
    place.learn()
    (place.store / "CRM-flat.vmdk").write_bytes(b"disk")
    new = place.folder / "new"
    mount(new, "-o", "loop", str(image(place.folder / "two")))
    shutil.copytree(place.store, new, dirs_exist_ok=True)
    unmount(new)
    unmount(place.store)
    mount(place.store, "-o", "loop", str(place.folder / "two"))
    place.not_refused()
    before = place.known
    assert place.learn() is Standing.MARKER
    assert place.known.marker == before.marker
    assert place.known.file_system.uuid != before.file_system.uuid
    (place.store / MARKER).unlink()
    assert place.learn() is Standing.FILE_SYSTEM  # the record was renewed: now it is this file system


@root_only
def test_the_marker_removed_it_is_known_by_its_file_system(place: Place) -> None:
    mount(place.store, "-o", "loop", str(image(place.folder / "one")))
    place.learn()
    before = (place.store / MARKER).read_bytes()
    (place.store / MARKER).unlink()
    place.not_refused()
    assert place.learn() is Standing.FILE_SYSTEM
    assert (place.store / MARKER).read_bytes() == before


@root_only
def test_a_bind_mount_of_the_very_same_file_system(place: Place) -> None:
    """Unmounted, its folder lies on the file system that was bound: only which folder of it tells the two apart."""
    (place.folder / "data").mkdir()
    mount(place.store, "--bind", str(place.folder / "data"))
    place.learn()
    place.not_refused()
    unmount(place.store)
    place.refused()
    assert list(place.store.iterdir()) == []


@root_only
def test_a_folder_of_an_overlay(place: Place) -> None:
    merged = place.folder / "merged"
    layers = place.folder / "layers"
    mount(layers, "-t", "tmpfs", "none")
    for name in ("lower/DS1", "upper", "work"):
        (layers / name).mkdir(parents=True)
    options = f"lowerdir={layers}/lower,upperdir={layers}/upper,workdir={layers}/work"
    mount(merged, "-t", "overlay", "-o", options, "overlay")
    record = DatastoreRecord(file=place.record.file, roots=(merged,))
    assert learn(merged / "DS1", record) is Standing.NEW
    assert learn(merged / "DS1", record) is Standing.BOTH
    unmount(merged)
    mount(merged, "-t", "overlay", "-o", options, "overlay")
    assert learn(merged / "DS1", record) in (Standing.BOTH, Standing.MARKER)
    refuse_unless_known(merged / "DS1" / "a.vmdk", record)


@root_only
def test_read_only_and_full_it_is_known_by_its_file_system_alone(place: Place) -> None:
    disk = str(image(place.folder / "one", mib=8))
    mount(place.store, "-o", "loop,ro", disk)
    assert place.learn() is Standing.NEW
    assert place.known.marker is None
    assert place.learn() is Standing.FILE_SYSTEM
    unmount(place.store)
    place.refused()
    mount(place.store, "-o", "loop", disk)
    ballast = fill(place.store)
    assert place.learn() is Standing.FILE_SYSTEM
    assert place.known.marker is None
    ballast.unlink()
    assert place.learn() is Standing.FILE_SYSTEM
    assert place.learn() is Standing.BOTH


def test_what_another_host_wrote_is_taken_over(place: Place) -> None:
    """Two hosts share a datastore: they must not change each other's marker."""
    place.learn()
    marker = (place.store / MARKER).read_bytes()
    other = DatastoreRecord(file=place.folder / "state" / "other.json", roots=(place.root,))
    assert learn(place.store, other) is Standing.NEW
    accept(place.store, other)
    assert (place.store / MARKER).read_bytes() != marker
    assert place.learn() is Standing.FILE_SYSTEM
    assert place.learn() is Standing.BOTH
    assert learn(place.store, other) is Standing.BOTH


@pytest.mark.parametrize("kind", ["link", "folder", "fifo", "garbage"])
def test_a_marker_that_is_none(place: Place, kind: str) -> None:
    """Whoever may write to the datastore can plant anything under that name. It is never followed, nor waited for."""
    marker, secret = place.store / MARKER, place.folder / "secret"
    secret.write_text("datastore 12345678-1234-1234-1234-123456789012\n")
    secret.chmod(0o600)
    match kind:
        case "link":
            marker.symlink_to(secret)
        case "folder":
            marker.mkdir()
        case "fifo":
            os.mkfifo(marker)
        case _:
            marker.write_bytes(b"\xff" * 100)
    assert facts_of_datastore(place.store).marker is None
    place.learn()
    assert place.learn() is (Standing.FILE_SYSTEM if kind == "folder" else Standing.BOTH)
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert secret.read_text().startswith("datastore 12345678")


def test_a_datastore_that_was_there_and_is_gone(place: Place) -> None:
    """Some mount points are made and removed with the mount. One that never was is another matter: that is no datastore."""
    refuse_unless_known(place.root / "DS2" / "a.vmdk", place.record)
    place.learn()
    shutil.rmtree(place.store)
    with pytest.raises(WrongDatastore, match="there is no such folder") as found:
        refuse_unless_known(place.disk, place.record)
    assert "phd datastores forget DS1" in found.value.remedy
    assert forget(place.store, place.record)
    refuse_unless_known(place.disk, place.record)
    assert not forget(place.store, place.record)


@pytest.mark.parametrize("roots", [True, False])
def test_a_mount_point_that_fstab_names(place: Place, monkeypatch: pytest.MonkeyPatch, roots: bool) -> None:
    """Nothing was mounted there from the first time on, so nothing is recorded. A person's own restore is refused, too."""
    fstab = place.folder / "fstab"
    monkeypatch.setattr(mounts, "FSTAB", fstab)
    fstab.write_text(f"nas:/export {place.store} nfs defaults\n")
    with pytest.raises(WrongDatastore, match="is not mounted") as found:
        open_destination(
            place.disk, roots=(place.root,) if roots else None, make_folders=True, datastores=place.record if roots else None
        )
    assert str(fstab) in found.value.remedy
    assert "phd datastores accept" in found.value.remedy
    assert list(place.store.iterdir()) == []
    with pytest.raises(WrongDatastore):
        accept(place.store, place.record)
    fstab.write_text(f"nas:/export {place.disk.parent} nfs defaults\n")  # a mount below the datastore
    place.refused()
    fstab.write_text("")
    place.not_refused()


@pytest.mark.parametrize(
    "text", ["", "{", '{"version": 2, "datastores": {}}', '{"version": 1, "datastores": {"/a": {"marker": 1}}}', "[]"]
)
def test_a_damaged_record_refuses_all(place: Place, text: str) -> None:
    """To learn everything anew would be to trust whatever is mounted just now."""
    place.learn()
    place.record.file.write_text(text)
    with pytest.raises(WrongDatastore, match="the record of datastores cannot be read") as found:
        refuse_unless_known(place.disk, place.record)
    assert "remove it" in found.value.remedy
    with pytest.raises(WrongDatastore):
        place.learn()
    assert place.record.file.read_text() == text


def test_a_crash_between_marker_and_record(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from restore_core.disk import known_datastores

    def crash(_file: Path, _known: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(known_datastores, "_write", crash)
        with pytest.raises(KeyboardInterrupt):
            place.learn()
    marker = (place.store / MARKER).read_text()
    assert place.learn() is Standing.NEW
    assert (place.store / MARKER).read_text() == marker
    with monkeypatch.context() as patch:
        patch.setattr(known_datastores, "_write", crash)
        with pytest.raises(KeyboardInterrupt):
            accept(place.store, place.record)
    assert place.learn() is Standing.FILE_SYSTEM
    assert place.learn() is Standing.BOTH


def test_one_change_at_a_time(place: Place) -> None:
    import fcntl

    fd = os.open(place.record.file.parent, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    with pytest.raises(TryAgainLater, match="another process"):
        place.learn()
    os.close(fd)
    place.learn()


@root_only
def test_a_folder_that_was_opened_before_the_mount_came(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The destination's folder was opened on the empty mount point, then the datastore was mounted and is known."""
    from restore_core.disk import confinement

    disk = str(image(place.folder / "one"))
    mount(place.store, "-o", "loop", disk)
    place.learn()
    unmount(place.store)
    real = confinement.walk_to

    def walk_and_mount(folder: Path, roots: tuple[Path, ...] | None) -> confinement.Walk:
        walk = real(folder, roots)
        mount(place.store, "-o", "loop", disk)
        return walk

    monkeypatch.setattr(confinement, "walk_to", walk_and_mount)
    with pytest.raises(TryAgainLater, match="just mounted"):
        open_destination(place.disk, roots=(place.root,), make_folders=True, datastores=place.record)
    unmount(place.store)
    assert list(place.store.iterdir()) == []


def test_the_record_can_be_read_by_a_person(place: Place) -> None:
    place.learn()
    document = json.loads(place.record.file.read_text())
    assert document["version"] == 1
    assert list(document["datastores"]) == [str(place.store)]


@pytest.mark.parametrize("spare", range(5))
def test_a_datastore_that_could_not_be_looked_at_is_not_recorded_as_one_without_a_name(place: Place, spare: int) -> None:
    """The daemon had no descriptor left for some of its looks; afterwards every job waited for a disk of no kind."""
    spares = [os.open("/", os.O_RDONLY) for _ in range(spare)]
    with no_file_more():
        for fd in spares:
            os.close(fd)
        with contextlib.suppress(OSError, TryAgainLater):
            place.learn()
    if str(place.store) in read_datastores(place.record.file):
        assert place.known.file_system.type
    place.learn()
    place.not_refused()


def test_what_nothing_could_be_recognized_by_is_not_recorded(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    nameless = DatastoreFacts(marker=None, file_system=FileSystem(type="", uuid="", fsid="", source="", folder=""))
    monkeypatch.setattr(known_datastores, "facts_of_datastore", lambda _path: nameless)
    monkeypatch.setattr(known_datastores, "put_marker", lambda *_arguments, **_named: None)
    for record in (lambda: learn(place.store, place.record), lambda: accept(place.store, place.record)):
        with pytest.raises(TryAgainLater, match="its marker cannot be written"):
            record()
    assert not place.record.file.exists()

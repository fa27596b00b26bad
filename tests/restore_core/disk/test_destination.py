from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from restore_core.disk.destination import Destination, destination_key, open_destination
from restore_core.disk.vmdk import render_descriptor
from restore_core.errors import DestinationError, DestinationOutside


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "volumes"
    (root / "ISCSI02").mkdir(parents=True)
    return root


def opened(path: Path, root: Path | None, *, make: bool = True) -> Destination:
    return open_destination(path, roots=None if root is None else (root,), make_folders=make)


def refusal(path: Path | str, root: Path | None, *, make: bool = True) -> DestinationError:
    with pytest.raises(DestinationError) as caught:
        opened(Path(path), root, make=make).close()
    assert all(line.isprintable() for line in str(caught.value).split("\n"))
    return caught.value


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


def flat_disk(folder: Path, name: str = "CRM") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}-flat.vmdk").write_bytes(bytes(512))
    text = render_descriptor(flat_name=f"{name}-flat.vmdk", size=512, thin=False, original=None)
    (folder / f"{name}.vmdk").write_text(text)
    return folder / f"{name}.vmdk"


def test_a_vmdk_on_a_datastore(root: Path):
    path = root / "ISCSI02" / "ronzo" / "x" / "CRM.vmdk"
    with opened(path, root) as found:
        assert (found.disk_name, found.descriptor_name, found.part_name) == ("CRM-flat.vmdk", "CRM.vmdk", "CRM-flat.vmdk.phd-new")
        assert found.datastore == str(root / "ISCSI02")
        assert not found.raw
        assert (found.stat_disk(), found.stat_descriptor()) == (None, None)
        facts = os.stat(path.parent)
        assert found.key == (facts.st_dev, facts.st_ino, "crm-flat.vmdk")
        assert os.fstat(found.folder_fd).st_ino == facts.st_ino
        assert facts.st_mode & 0o777 == 0o700
    found.close()


def test_a_raw_image_directly_on_a_datastore(root: Path):
    path = root / "ISCSI02" / "dump.img"
    path.write_bytes(b"12345")
    with opened(path, root, make=False) as found:
        assert (found.disk_name, found.descriptor_name, found.part_name) == ("dump.img", None, "dump.img.phd-new")
        assert found.raw
        facts = found.stat_disk()
        assert facts is not None
        assert facts.st_size == 5
        assert found.stat_descriptor() is None


def test_an_existing_flat_disk_is_accepted(root: Path):
    with opened(flat_disk(root / "ISCSI02" / "ronzo"), root, make=False) as found:
        assert found.stat_disk() is not None
        assert found.stat_descriptor() is not None


def test_without_roots_links_are_followed_and_folders_made(tmp_path: Path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with opened(tmp_path / "link" / "a" / "b" / "x.vmdk", None) as found:
        assert os.path.samestat(os.fstat(found.folder_fd), os.stat(tmp_path / "real" / "a" / "b"))
        assert os.path.ismount(found.datastore)


def test_without_leave_no_folder_is_made(root: Path, tmp_path: Path):
    assert "there is no folder ronzo" in str(refusal(root / "ISCSI02" / "ronzo" / "x.vmdk", root, make=False))
    refusal(tmp_path / "no" / "x.vmdk", None, make=False)
    assert not (root / "ISCSI02" / "ronzo").exists()


def test_a_datastore_may_be_a_link_but_is_never_made(root: Path, tmp_path: Path):
    (tmp_path / "lun7").mkdir()
    (root / "nice").symlink_to(tmp_path / "lun7")
    (root / "dangling").symlink_to(tmp_path / "lun8")
    with opened(root / "nice" / "vm" / "x.vmdk", root) as found:
        assert found.datastore == str(root / "nice")
        assert (tmp_path / "lun7" / "vm").is_dir()
    for name in ("gone", "dangling"):
        assert "there is no datastore" in str(refusal(root / name / "vm" / "x.vmdk", root))
    assert not (root / "gone").exists()
    assert not (tmp_path / "lun8").exists()


@pytest.mark.parametrize(
    "place", ["/etc/x.vmdk", "{root}/x.vmdk", "{root}/../x.vmdk", "{root}/ISCSI02/../../x.vmdk", "{root}2/a/x.vmdk"]
)
def test_what_lies_outside_the_datastores(root: Path, place: str):
    assert isinstance(refusal(place.format(root=root), root), DestinationOutside)


@pytest.mark.parametrize("target", ["/etc", "../../elsewhere", "../other", "other-inside"])
def test_a_planted_link_below_a_datastore_is_not_followed(root: Path, tmp_path: Path, target: str):
    for folder in (tmp_path / "elsewhere", root / "other", root / "ISCSI02" / "other-inside"):
        folder.mkdir()
    (root / "ISCSI02" / "ronzo").symlink_to(target)
    before = open_fds()
    for path in (root / "ISCSI02" / "ronzo" / "x.vmdk", root / "ISCSI02" / "ronzo" / "deep" / "x.vmdk"):
        error = refusal(path, root)
        assert isinstance(error, DestinationOutside)
        assert "ronzo is a link" in str(error)
        assert destination_key(path, (root,)) is None
    assert open_fds() == before
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_folder_swapped_for_a_link_after_opening_changes_nothing(root: Path, tmp_path: Path):
    folder, evil = root / "ISCSI02" / "ronzo", tmp_path / "evil"
    evil.mkdir()
    with opened(folder / "x.vmdk", root) as found:
        folder.rename(root / "ISCSI02" / "moved")
        folder.symlink_to(evil)
        os.close(os.open(found.part_name, os.O_CREAT | os.O_WRONLY, dir_fd=found.folder_fd))
    assert (root / "ISCSI02" / "moved" / "x-flat.vmdk.phd-new").exists()
    assert list(evil.iterdir()) == []


@pytest.mark.parametrize("name", ["CRM-flat.vmdk", "crm-FLAT.VMDK"])
def test_the_flat_file_is_not_the_name_of_a_disk(root: Path, name: str):
    assert "descriptor instead" in str(refusal(root / "ISCSI02" / name, root))


@pytest.mark.parametrize(
    "name",
    ["a\nb.vmdk", "a\x1b[2J.img", "\udce9.img", "\u2028.img", 'a"b.vmdk', ".vmdk", "x.img.phd-new", "x.phd-applying", "a\0b.img"],
)
def test_names_that_cannot_be_a_disk(root: Path, name: str):
    refusal(f"{root}/ISCSI02/{name}", root)
    refusal(f"{root}/ISCSI02/{name}", None)


def test_a_quote_is_fine_in_the_name_of_a_raw_image(root: Path):
    opened(root / "ISCSI02" / "a\"b 'c' ö.img", root).close()


def test_length_of_names_counts_bytes_and_our_suffixes(root: Path):
    for name, suffix in (("a", ".vmdk"), ("ö", ".vmdk"), ("a", ".img")):
        extra = len(suffix) + (len("-flat") if suffix == ".vmdk" else 0) + len(".phd-redo-part")
        fits = (255 - extra) // len(name.encode())
        with opened(root / "ISCSI02" / (name * fits + suffix), root) as found:
            os.close(os.open(found.part_name, os.O_CREAT | os.O_WRONLY, dir_fd=found.folder_fd))
        assert "bytes too long" in str(refusal(root / "ISCSI02" / (name * (fits + 1) + suffix), root))


@pytest.mark.parametrize("path", ["x.vmdk", "a/../x.vmdk", "/", "/a/../x.vmdk"])
def test_paths_that_are_no_destination_even_without_roots(path: str):
    refusal(path, None)


@pytest.mark.parametrize("name", ["x.vmdk", "x-flat.vmdk", "x.img"])
@pytest.mark.parametrize("kind", ["folder", "fifo", "link", "dangling", "device"])
def test_things_that_are_no_plain_files(root: Path, name: str, kind: str):
    place = root / "ISCSI02" / name
    if kind == "folder":
        place.mkdir()
    elif kind == "fifo":
        os.mkfifo(place)
    elif kind == "device":
        if os.geteuid() != 0:
            pytest.skip("only root can make a device")
        os.mknod(place, 0o600 | 0o020000, os.makedev(1, 3))
    else:
        place.symlink_to("/etc/passwd" if kind == "link" else "nowhere")
    before = open_fds()
    assert "not a plain file" in str(refusal(place.with_name(name.replace("-flat", "")), root))
    assert open_fds() == before


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (("-o", "subformat=monolithicSparse"), "a sparse VMDK"),
        (("-o", "subformat=streamOptimized"), "a sparse VMDK"),
        (("-o", "subformat=twoGbMaxExtentFlat"), "split into"),
        (("-o", "subformat=twoGbMaxExtentSparse"), "a sparse disk|split into"),
    ],
)
def test_an_existing_vmdk_that_is_not_flat_is_kept(root: Path, arguments: tuple[str, ...], names: str):
    place = root / "ISCSI02" / "x.vmdk"
    subprocess.run(["qemu-img", "create", "-q", "-f", "vmdk", *arguments, place, "3G"], check=True)
    assert any(name in str(refusal(place, root)) for name in names.split("|"))


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ("parentCID=ffffffff", "parentCID=12345678", "a snapshot"),
        ("CRM-flat.vmdk", "other-flat.vmdk", "data in other-flat.vmdk"),
        ("CRM-flat.vmdk", "../CRM-flat.vmdk", "data in ../CRM-flat.vmdk"),
        ('"vmfs"', '"vmfsRawDeviceMap"', "raw device mapping"),
        ("version=1", "hello", "neither a setting nor an extent"),
    ],
)
def test_an_existing_descriptor_of_something_else_is_kept(root: Path, old: str, new: str, names: str):
    descriptor = flat_disk(root / "ISCSI02")
    descriptor.write_text(descriptor.read_text().replace(old, new))
    assert names in str(refusal(descriptor, root))


def test_an_empty_file_in_the_place_of_a_descriptor_is_kept(root: Path):
    (root / "ISCSI02" / "x.vmdk").touch()
    assert "no flat disk" in str(refusal(root / "ISCSI02" / "x.vmdk", root))


def test_a_file_in_the_place_of_a_folder(root: Path):
    (root / "ISCSI02" / "ronzo").touch()
    assert "ronzo is not a folder" in str(refusal(root / "ISCSI02" / "ronzo" / "x.vmdk", root))
    refusal(root / "ISCSI02" / "ronzo" / "x.vmdk", None)


def test_a_link_that_leads_nowhere_is_final_without_roots_too(tmp_path: Path):
    (tmp_path / "link").symlink_to("nowhere")
    error = refusal(tmp_path / "link" / "a" / "x.vmdk", None)
    assert "leads nowhere" in str(error)
    assert not error.try_again


def test_one_disk_has_one_key_by_every_path(root: Path, tmp_path: Path):
    (root / "nice").symlink_to("ISCSI02")
    (tmp_path / "other").symlink_to(root)
    plain = destination_key(root / "ISCSI02" / "vm" / "CRM.vmdk", (root,))
    assert plain is not None
    for path, roots in (
        (root / "nice" / "vm" / "CRM.vmdk", (root,)),
        (Path(f"/{root}//ISCSI02/./vm/crm.vmdk"), (root,)),
        (tmp_path / "other" / "ISCSI02" / "vm" / "CRM.vmdk", None),
    ):
        assert destination_key(path, roots) == plain
    assert not (root / "ISCSI02" / "vm").exists()
    with opened(root / "ISCSI02" / "vm" / "CRM.vmdk", root) as found:
        assert destination_key(root / "nice" / "vm" / "CRM.vmdk", (root,)) == found.key
    assert destination_key(root / "ISCSI02" / "vm" / "other.vmdk", (root,)) != found.key


@pytest.mark.parametrize("path", ["x.vmdk", "/etc/x.vmdk", "/a/../x.vmdk"])
def test_no_key_for_what_cannot_be_a_destination(root: Path, path: str):
    assert destination_key(Path(path), (root,)) is None


def test_nothing_stays_open(root: Path):
    before = open_fds()
    opened(root / "ISCSI02" / "a" / "b" / "x.vmdk", root).close()
    destination_key(root / "ISCSI02" / "a" / "c" / "x.vmdk", (root,))
    refusal(root / "ISCSI02" / "no" / "x.vmdk", root, make=False)
    refusal(root / "ISCSI02" / ("n" * 300) / "x.vmdk", root)
    assert open_fds() == before


def test_the_longest_root_that_fits_is_taken(root: Path):
    inner = root / "ISCSI02"
    (inner / "lun").mkdir()
    with open_destination(inner / "lun" / "x.vmdk", roots=(root, inner), make_folders=False) as found:
        assert found.datastore == str(inner / "lun")

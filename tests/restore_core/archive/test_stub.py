"""`sh DELTA`: the same disks and descriptors as a restore of ours, in every shell, with whatever tools there are."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from restore_core.archive.delta_writer import stub_script
from restore_core.backup.run import BackupOptions, BackupReporter, backup
from restore_core.backup.subject import Asked
from restore_core.restore.request import Provision
from restore_core.targets.base import ArchiveRef
from tests.lab import BLOCK, FRAME, NIGHT, UUID, Lab
from tests.restore_core.archive.stub_shell import SHELLS, SMALL_TOOLS, STUB, full_path, path_of, sh, small_case, two_backups
from tests.restore_core.restore.test_foreign import DATA, WRITERS, adopt

SIZES = [0, 1, 511, 512, BLOCK - 1, BLOCK, BLOCK + 1, FRAME + 1, 3 * BLOCK + 77, (16 << 20) + 512]
MEAN = "a b'c\"d $(touch pwned) `touch pwned` \\ ü"


def filled(size: int, letter: bytes) -> bytes:
    """Data and zeros in turn, a block each."""
    return b"".join(letter * BLOCK if n % 2 else bytes(BLOCK) for n in range(-(-size // BLOCK)))[:size]


def same(lab: Lab, delta: Path, ref_name: str, data: bytes) -> None:
    ran = sh(delta, "restore", "--to", lab.folder / ref_name)
    assert ran.returncode == 0, ran.stderr
    assert (lab.folder / ref_name).read_bytes() == data


@pytest.mark.parametrize("size", SIZES)
def test_a_full_and_its_empty_delta(lab: Lab, size: int) -> None:
    data = filled(size, b"x")
    made = lab.backup(data)
    same(lab, lab.path(made.delta), "by-shell.img", data)
    assert lab.restored(made.delta) == data
    assert sh(lab.path(made.delta), "verify").returncode == 0


@pytest.mark.parametrize("before", [0, 1, FRAME + 1, 5 * BLOCK + 9])
@pytest.mark.parametrize("after", [0, BLOCK - 1, 2 * FRAME, 5 * BLOCK + 10])
def test_grown_and_shrunk(lab: Lab, before: int, after: int) -> None:
    old, new = filled(before, b"x"), filled(after, b"x")[: after // 2] + filled(after, b"y")[after // 2 :]
    _, delta = two_backups(lab, old, new)
    same(lab, delta, "by-shell.img", new)


def test_many_segments_zero_and_not(lab: Lab) -> None:
    """Segments in the middle and at the end that are in no list, and one that became zero."""
    old = b"a" * BLOCK + bytes(32 << 20) + b"b" * BLOCK + bytes(20 << 20)
    new = bytes(BLOCK) + bytes(32 << 20) + b"c" * BLOCK + bytes((20 << 20) + 512)
    _, delta = two_backups(lab, old, new)
    same(lab, delta, "by-shell.img", new)


DESCRIPTOR = """# Disk DescriptorFile
version=1
CID=ABCDEF
parentCID=ffffffff
createType="monolithicFlat"
RW {sectors} FLAT "CRM-flat.vmdk" 0
ddb.adapterType = "lsilogic"
ddb.comment = "back\\slash %41 $(id) `id` ü"
ddb.invisible = "\u200b"
ddb.thinProvisioned = "1"
ddb.uuid = "60 00 C2 9a"
"""


def vmdk_backup(lab: Lab, *, descriptor: bool) -> tuple[ArchiveRef, bytes]:
    """The Delta of a VMDK with a VMX beside it, or of a raw image; and the disk."""
    data, home = small_case()[0] + bytes(512), lab.folder / "home"
    home.mkdir()
    (home / "CRM-flat.vmdk").write_bytes(data)
    (home / "CRM.vmdk").write_text(DESCRIPTOR.format(sectors=len(data) // 512), encoding="utf-8")
    (home / "CRM.vmx").write_text('scsi0:0.fileName = "CRM.vmdk"\nscsi0:0.present = "TRUE"\ndisplayName = "CRM"\n')
    if not descriptor:
        (home / "CRM-flat.vmdk").rename(home / "CRM.img")
    options = BackupOptions(asked=Asked(vm=MEAN, uuid=UUID), full=True, at=NIGHT, scratch=lab.folder)
    (made,) = backup(home / ("CRM.vmdk" if descriptor else "CRM.img"), lab.targets["t"], options, BackupReporter())
    return made.delta, data


@pytest.mark.parametrize("descriptor", [True, False])
@pytest.mark.parametrize("thin", [True, False])
def test_descriptors_are_those_of_our_own_restore(lab: Lab, descriptor: bool, thin: bool) -> None:
    ref, data = vmdk_backup(lab, descriptor=descriptor)
    delta, ours, shells = lab.path(ref), lab.folder / "out", lab.folder / "sh"
    shells.mkdir()
    lab.restore(ref, "new name.vmdk", provision=Provision.THIN if thin else Provision.THICK)
    ran = sh(delta, "restore", "--to", shells / "new name.vmdk", *(["--thin"] if thin else []))
    assert ran.returncode == 0, ran.stderr
    assert (shells / "new name.vmdk").read_bytes() == (ours / "new name.vmdk").read_bytes()
    assert (shells / "new name-flat.vmdk").read_bytes() == data == (ours / "new name-flat.vmdk").read_bytes()
    assert sorted(os.listdir(shells)) == ["new name-flat.vmdk", "new name.vmdk"]
    sh(delta, "stub", "--to", shells / "new name.vmdk", "--overwrite", *(["--thin"] if thin else []))
    assert (shells / "new name.vmdk").read_bytes() == (ours / "new name.vmdk").read_bytes()


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell(lab: Lab, shell: str) -> None:
    if shutil.which(SHELLS[shell][0]) is None:
        pytest.skip(f"{SHELLS[shell][0]} is not installed")
    old, new = small_case()
    _, delta = two_backups(lab, old, new)
    folder = lab.folder / MEAN
    folder.mkdir()
    for arguments in (("restore", "--to", folder / "d ü.vmdk"), ("verify",), ("verify-full",), ("info",), ("--help",)):
        ran = sh(delta, *arguments, shell=SHELLS[shell], cwd=folder)
        assert (ran.returncode, ran.stderr) == (0, "")
    assert (folder / "d ü-flat.vmdk").read_bytes() == new
    assert sorted(os.listdir(folder)) == ["d ü-flat.vmdk", "d ü.vmdk"]


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_refuses_to_be_fed(lab: Lab, shell: str) -> None:
    if shutil.which(SHELLS[shell][0]) is None:
        pytest.skip(f"{SHELLS[shell][0]} is not installed")
    delta = lab.path(lab.backup(b"x" * 700).delta)
    with delta.open("rb") as file:
        ran = subprocess.run([*SHELLS[shell], "-s"], stdin=file, capture_output=True, text=True, check=False, cwd=lab.folder)
    assert ran.returncode == 2
    assert "Run this file by its name" in ran.stderr


@pytest.mark.parametrize("names", [("busybox",), ("busybox", "dash"), SMALL_TOOLS], ids=["busybox", "busybox, dash", "no helpers"])
def test_nothing_else_on_the_path(lab: Lab, names: tuple[str, ...]) -> None:
    missing = [name for name in names if shutil.which(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    old, new = small_case()
    _, delta = two_backups(lab, old, new)
    only = {"PATH": path_of(lab.folder / "bin", *names)}
    shell = (str(lab.folder / "bin" / names[-1]),) if names[-1] == "dash" else (str(lab.folder / "bin" / "busybox"), "sh")
    if names is SMALL_TOOLS:
        shell = (str(lab.folder / "bin" / "sh"),)
    for arguments in (("restore", "--to", lab.folder / "x.img"), ("verify",), ("--help",)):
        ran = sh(delta, *arguments, shell=shell, env=only)
        assert (ran.returncode, ran.stderr) == (0, ""), arguments
    assert (lab.folder / "x.img").read_bytes() == new


def test_by_any_path_from_anywhere(lab: Lab) -> None:
    old, new = small_case()
    _, delta = two_backups(lab, old, new)
    odd = lab.folder / MEAN
    shutil.copytree(delta.parent, odd)
    name = f"{MEAN}-{delta.name}"
    (odd / delta.name).rename(odd / name)
    for number, script in enumerate((f"./{name}", name, str(odd / name), f"{odd}/../{odd.name}/{name}")):
        ran = sh(script, "restore", "--to", f"{number}.img", cwd=odd)
        assert (ran.returncode, ran.stderr) == (0, ""), script
        assert (odd / f"{number}.img").read_bytes() == new
    (odd / name).rename(odd / "-x")
    assert sh("./-x", "verify", cwd=odd).returncode == 0
    assert not list(lab.folder.rglob("pwned"))


def test_a_read_only_share_and_no_room_for_temporaries(lab: Lab) -> None:
    """Nothing is written but the destination: the rest of the file system is mounted read-only, /tmp too."""
    old, new = small_case()
    _, delta = two_backups(lab, old, new)
    out = lab.folder / "volume"
    out.mkdir()
    inside = 'mount --bind "$1" "$1" && mount -o remount,bind,ro / && shift && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", inside, "sh", str(out), "sh", str(delta), "restore", "--to", f"{out}/x.vmdk"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "TMPDIR": "/nowhere"})
    if "unshare" in ran.stderr or "mount:" in ran.stderr:
        pytest.skip(f"no mount namespaces here: {ran.stderr.strip()[:100]}")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert (out / "x-flat.vmdk").read_bytes() == new


def test_finds_the_full_next_door_by_name_and_by_content(lab: Lab) -> None:
    old, new = small_case()
    made, delta = two_backups(lab, old, new)
    full, day = full_path(lab, made), lab.store / "2026.03.02-CRM.x"
    day.mkdir()
    moved = shutil.copy(delta, day)
    assert sh(moved, "verify").stdout.count("has its SHA-256") == 2
    decoy = full.with_name("decoy.phd")
    decoy.write_bytes(bytes(full.stat().st_size))
    full.rename(full.with_name("renamed 'x'.phd"))
    found = sh(moved, "verify").stdout
    assert "renamed 'x'.phd: has its SHA-256" in found
    full.with_name("renamed 'x'.phd").unlink()
    lost = sh(moved, "restore", "--to", lab.folder / "x.img")
    assert lost.returncode == 69
    assert "--full PATH_OR_URL" in lost.stderr


def test_a_full_that_is_not_needed(lab: Lab) -> None:
    made, delta = two_backups(lab, b"x" * BLOCK, b"y" * BLOCK)
    full_path(lab, made).unlink()
    same(lab, delta, "x.img", b"y" * BLOCK)
    assert "not needed" in sh(delta, "verify").stdout


@pytest.mark.parametrize("writer", WRITERS)
def test_a_foreign_gzip(lab: Lab, writer: str) -> None:
    full = lab.store / f"2026.03.01-CRM.{UUID}" / "00-CRM.img.gz-260301-0300.phd"
    full.parent.mkdir()
    full.write_bytes(WRITERS[writer](DATA))
    delta = lab.path(adopt(lab))
    same(lab, delta, "x.img", DATA)
    full.write_bytes(full.read_bytes()[:-1])
    assert sh(delta, "restore", "--to", lab.folder / "y.img", "--full", full).returncode == 65
    assert not (lab.folder / "y.img").exists()


def test_vmx_info_and_words(lab: Lab) -> None:
    delta = lab.path(vmdk_backup(lab, descriptor=True)[0])
    folder = lab.folder / "vm"
    folder.mkdir()
    ran = sh(delta, "vmx", "--to", folder)
    assert ran.returncode == 0, ran.stderr
    (vmx,) = folder.iterdir()
    assert vmx.suffix == ".vmx"
    assert vmx.read_bytes() == (lab.folder / "home" / "CRM.vmx").read_bytes()
    assert sh(delta, "vmx", "--to", folder).returncode == 73
    info = sh(delta, "info").stdout
    assert UUID in info
    assert "$(touch pwned) `touch pwned`" in info
    assert f"disk-size={len(small_case()[0]) + 512}" in info
    assert not list(lab.folder.rglob("pwned"))


def test_the_words_that_mean_nothing(lab: Lab) -> None:
    delta = lab.path(lab.backup(b"x" * 700).delta)
    for words in ("restor", "restore", "restore --to", "restore --too x", "restore --to .", "stub --to x.img", "verify x"):
        ran = sh(delta, *words.split(), cwd=lab.folder)
        assert ran.returncode == 2, words
        assert ran.stderr
    assert sh(delta, "vmx", "--to", ".").returncode == 65
    ran = sh(delta)
    assert ran.returncode == 0
    assert "virtual machine   CRM" in ran.stdout
    assert "--overwrite" in ran.stdout


def test_shellcheck() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    ran = subprocess.run(["shellcheck", "--norc", STUB], capture_output=True, text=True, check=False)
    assert ran.stdout == ""


def test_it_ends_by_itself_and_fits() -> None:
    """What follows it in the file is padding and binary data: no shell may come that far."""
    code = [line for line in stub_script().splitlines() if not line.startswith("#h")]
    assert code[-1] == "exit"
    assert len(stub_script().encode()) < 46_000, "the header needs room in the 64 KiB too"
    assert max(map(len, code)) <= 132

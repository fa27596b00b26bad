"""One disk, restored three ways by the installed programs: a control file for the daemon, `phd restore`, and `sh DELTA`."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.restore_core.archive.stub_shell import sh, small_case

PHD = str(Path(sys.executable).with_name("phd"))
DESCRIPTOR = """# Disk DescriptorFile
version=1
CID=0badcafe
parentCID=ffffffff
createType="vmfs"
RW {sectors} VMFS "CRM-flat.vmdk"
ddb.adapterType = "lsilogic"
ddb.longContentID = "0123456789abcdef0123456789abcdef"
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A configuration with one target and one datastore, and a VM's folder with a disk."""
    for name in ("target", "volumes/DS1/daemon", "volumes/DS1/phd", "volumes/DS1/shell", "restore", "CRM"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "restore").chmod(0o700)
    (tmp_path / "phd.toml").write_text(
        f'state_dir = "{tmp_path}/state"\n[queue]\nspool = "{tmp_path}/restore"\n'
        f'[replication]\nenabled = false\nrules = "{tmp_path}/vmdks.auto"\nledger = "{tmp_path}/restored.log"\n'
        f'[datastores]\nroots = ["{tmp_path}/volumes"]\n[targets.t]\nurl = "file://{tmp_path}/target"\n'
    )
    return tmp_path


def phd(place: Path, command: str, *arguments: str) -> None:
    subprocess.run([PHD, command, "--config", str(place / "phd.toml"), *arguments], check=True, capture_output=True)


def back_up(place: Path, *, descriptor: bool) -> Path:
    """Two days of a disk; the Delta of the second."""
    old, new = small_case()
    disk = place / "CRM" / ("CRM-flat.vmdk" if descriptor else "CRM.img")
    source = place / "CRM" / ("CRM.vmdk" if descriptor else "CRM.img")
    for day, data in enumerate((old, new), start=1):
        disk.write_bytes(data)
        if descriptor:
            source.write_text(DESCRIPTOR.format(sectors=len(data) // 512))
        phd(place, "backup", str(source), "--target", "t", "--at", f"2026-01-0{day}T03:00")
    (delta,) = (place / "target").rglob("*.delta-2026.01.02-*")
    return delta


def by_daemon(place: Path, delta: Path, to: Path) -> None:
    """Drop a control file and wait for its end."""
    with subprocess.Popen([PHD, "daemon", "--config", str(place / "phd.toml")], stderr=subprocess.DEVNULL) as daemon:
        try:
            text = f'delta = "t:{delta.relative_to(place / "target")}"\nrestore_to = "{to}"\n'
            (place / "restore" / "crm.tmp").write_text(text)
            (place / "restore" / "crm.tmp").rename(place / "restore" / "crm.job")
            end = time.monotonic() + 60
            while not (place / "restore" / "crm.done").exists():
                assert time.monotonic() < end, (place / "restore" / "crm.log").read_text()
                time.sleep(0.05)
        finally:
            daemon.terminate()


@pytest.mark.parametrize("descriptor", [True, False])
def test_three_ways_one_disk(place: Path, descriptor: bool) -> None:
    delta, volume = back_up(place, descriptor=descriptor), place / "volumes" / "DS1"
    by_daemon(place, delta, volume / "daemon" / "CRM.vmdk")
    phd(place, "restore", str(delta), "--to", str(volume / "phd" / "CRM.vmdk"))
    ran = sh(delta, "restore", "--to", volume / "shell" / "CRM.vmdk")
    assert (ran.returncode, ran.stderr) == (0, "")
    for name in ("CRM-flat.vmdk", "CRM.vmdk"):
        ours = {way: (volume / way / name).read_bytes() for way in ("daemon", "phd", "shell")}
        assert ours["shell"] == ours["phd"] == ours["daemon"], name
    assert (volume / "shell" / "CRM-flat.vmdk").read_bytes() == small_case()[1]

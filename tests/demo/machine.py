"""The VM of the demo: a VMX, a flat VMDK with its descriptor, and an ext4 file system with real files in it."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.demo.shell import DemoFailed, Shell, title

UUID = "56 4d 12 2a 0e d7 3b 92-2f 46 ae e9 45 6b 20 74"
SIZE_MIB = 256
FILES_MIB = 90

VMX = f"""\
.encoding = "UTF-8"
displayName = "CRM"
uuid.bios = "{UUID}"
guestOS = "debian12-64"
memSize = "2048"
scsi0.present = "TRUE"
scsi0.virtualDev = "lsilogic"
scsi0:0.present = "TRUE"
scsi0:0.deviceType = "scsi-hardDisk"
scsi0:0.fileName = "CRM.vmdk"
"""

DESCRIPTOR = f"""\
# Disk DescriptorFile
version=1
CID=fffffffe
parentCID=ffffffff
createType="vmfs"

# Extent description
RW {SIZE_MIB * 2048} VMFS "CRM-flat.vmdk"

# The Disk Data Base
#DDB

ddb.virtualHWVersion = "8"
ddb.geometry.cylinders = "{SIZE_MIB}"
ddb.geometry.heads = "64"
ddb.geometry.sectors = "32"
ddb.adapterType = "lsilogic"
"""

PLAY_A_DAY = """\
cd /etc-of-the-vm
rm hostname
write today.txt hostname
cd /
mkdir srv
cd srv
write today.txt orders.txt
write orders.bin orders.bin
quit
"""


def need_tools(shell: Shell) -> None:
    """Say what is missing, and how to get it."""
    for program in ("mkfs.ext4", "debugfs", "e2fsck"):
        if shutil.which(program, path=shell.env["PATH"]) is None:
            raise DemoFailed(f"{program} is not here, and could not be installed; as root: apt-get install e2fsprogs")


def make_vm(shell: Shell, vm: Path) -> None:
    """The VM as a host would have it."""
    vm.mkdir(parents=True)
    (vm / "CRM.vmx").write_text(VMX)
    (vm / "CRM.vmdk").write_text(DESCRIPTOR)
    content = shell.folder / "content"
    _collect_files(content)
    title(f"a VM: a disk of {SIZE_MIB} MiB with a real file system, its descriptor, its VMX")
    flat = (vm / "CRM-flat.vmdk").relative_to(shell.folder)
    shell.type(f"mkfs.ext4 -q -d content {flat} {SIZE_MIB}M")
    shutil.rmtree(content)
    shell.type(f"ls -lsh {vm.relative_to(shell.folder)}")


def change_vm(shell: Shell, flat: Path) -> None:
    """A day's work inside the disk: files written and removed with the file system's own tool."""
    (shell.folder / "today.txt").write_text("Ronzo ordered 40 ISOs.\n" * 2000)
    (shell.folder / "orders.bin").write_bytes(Path("/usr/bin/env").read_bytes() * 40)
    (shell.folder / "play-a-day").write_text(PLAY_A_DAY)
    title("a day later: files inside the disk have changed")
    shell.type(f"debugfs -w -f play-a-day {flat.relative_to(shell.folder)} >debugfs.said 2>&1")
    listing = shell.type(f"debugfs -R 'ls -l /srv' {flat.relative_to(shell.folder)} 2>>debugfs.said")
    if "orders.bin" not in listing:
        raise DemoFailed("the change inside the disk did not happen; debugfs said what is in debugfs.said")


def _collect_files(content: Path) -> None:
    etc = content / "etc-of-the-vm"
    etc.mkdir(parents=True)
    (etc / "hostname").write_text("crm\n")
    left = FILES_MIB << 20
    for number, file in enumerate(sorted(Path("/usr/lib").rglob("*.so*"))):
        if not file.is_file() or file.is_symlink():
            continue
        left -= file.stat().st_size
        if left < 0:
            return
        shutil.copyfile(file, content / f"{number:05d}-{file.name}")

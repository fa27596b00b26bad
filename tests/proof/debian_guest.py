"""A Debian 12 of its own with a serial console and a guest agent, as a disk that boots by UEFI; made once, in .work.

No loop device, no mount: mke2fs fills the root, mtools the EFI partition. The firmware's shell starts the kernel (startup.nsh).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.proof.scoreboard import ROOT, NotRun

PACKAGES = "linux-image-amd64,systemd-sysv,udev,initramfs-tools,login,kmod,qemu-guest-agent"
MIRROR = "http://deb.debian.org/debian"
TOOLS = ("debootstrap", "mke2fs", "mkfs.fat", "mcopy", "sfdisk")
ESP_MIB, ROOT_MIB = 96, 1600
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


def debian_disk() -> Path:
    """The disk. Raises `NotRun` where it cannot be made."""
    folder = ROOT / ".work" / "debian-guest"
    disk = folder / "disk.img"
    if disk.exists():
        return disk
    if os.geteuid() != 0:
        raise NotRun("a Debian guest is made by root")
    missing = [tool for tool in TOOLS if shutil.which(tool, path=_PATH) is None]
    if missing:
        raise NotRun(f"not installed: {', '.join(missing)} (Debian packages debootstrap dosfstools mtools fdisk)")
    folder.mkdir(parents=True, exist_ok=True)
    root = Path(os.environ.get("PHD_DEBIAN_ROOT") or folder / "root")
    if not (root / "etc/hostname").exists():
        _run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(root), MIRROR, lacks="the network")
    _configure(root)
    _make(folder, root, disk)
    return disk


def _configure(root: Path) -> None:
    (root / "etc/hostname").write_text("crm\n")
    (root / "etc/fstab").write_text("LABEL=root / ext4 errors=remount-ro 0 1\n")
    for name in (root / "var/cache/apt/archives").glob("*.deb"):
        name.unlink()


def _make(folder: Path, root: Path, disk: Path) -> None:
    esp, system, part = folder / "esp.img", folder / "root.img", folder / "disk.part"
    kernel, initrd = (max((root / "boot").glob(f"{name}-*")) for name in ("vmlinuz", "initrd.img"))
    (folder / "startup.nsh").write_text("fs0:\r\nvmlinuz root=LABEL=root rw console=ttyS0 initrd=\\initrd.img\r\n")
    for image, size in ((esp, ESP_MIB), (system, ROOT_MIB), (part, 1 + ESP_MIB + ROOT_MIB + 1)):
        image.unlink(missing_ok=True)
        with image.open("wb") as file:
            file.truncate(size << 20)
    _run("mkfs.fat", "-F", "32", str(esp))
    for source, name in ((kernel, "vmlinuz"), (initrd, "initrd.img"), (folder / "startup.nsh", "startup.nsh")):
        _run("mcopy", "-i", str(esp), str(source), f"::{name}")
    _run("mke2fs", "-q", "-F", "-t", "ext4", "-L", "root", "-d", str(root), str(system))
    table = f"label: gpt\nstart=1MiB, size={ESP_MIB}MiB, type=U\nsize={ROOT_MIB}MiB, type=L\n"
    _run("sfdisk", "-q", str(part), text=table)
    for image, at in ((esp, 1), (system, 1 + ESP_MIB)):
        _run("dd", f"if={image}", f"of={part}", "bs=1M", f"seek={at}", "conv=notrunc,sparse", "status=none")
        image.unlink()
    part.rename(disk)


def _run(*command: str, text: str = "", lacks: str = "") -> None:
    ran = subprocess.run(
        command, input=text, capture_output=True, text=True, check=False, env={**os.environ, "PATH": _PATH, "LC_ALL": "C.UTF-8"}
    )
    if ran.returncode and lacks:
        raise NotRun(f"{command[0]} failed ({lacks}?): {(ran.stdout + ran.stderr).strip()[-200:]}")
    if ran.returncode:
        raise RuntimeError(f"{' '.join(command)}: {ran.stderr}")

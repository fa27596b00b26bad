"""The machine that a VMX asks for, in the words of QEMU."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from phd_daemon.drill.hardware import DiskBus, disk_arguments, hardware_of

SCSI = {"scsi0.present": "TRUE"}


@pytest.mark.parametrize(
    ("vmx", "scsi", "bus"),
    [
        ({**SCSI, "scsi0.virtualdev": "pvscsi"}, "00", DiskBus.PVSCSI),
        ({**SCSI, "scsi0.virtualdev": "lsisas1068"}, "010", DiskBus.LSISAS),
        ({**SCSI, "scsi0.virtualdev": "LSILogic"}, "00", DiskBus.LSILOGIC),
        (SCSI, "00", DiskBus.LSILOGIC),
        ({**SCSI, "scsi1.virtualdev": "pvscsi"}, "12", DiskBus.PVSCSI),
        ({**SCSI, "scsi0.virtualdev": "buslogic"}, "00", DiskBus.IDE),
        ({}, "00", DiskBus.IDE),
        ({}, "sata00", DiskBus.SATA),
        ({}, "nvme01", DiskBus.NVME),
        (SCSI, "ide10", DiskBus.IDE),
    ],
)
def test_a_disk_has_the_bus_that_is_nearest_to_its_vmx(vmx: dict[str, str], scsi: str, bus: DiskBus) -> None:
    found = hardware_of(vmx, [scsi])
    assert found.buses == (bus,)
    assert bool(found.remarks) == ("buslogic" in vmx.values())


def test_the_bus_that_is_asked_for_overrules_the_vmx() -> None:
    assert hardware_of({**SCSI, "scsi0.virtualdev": "pvscsi"}, ["00", "01"], bus=DiskBus.VIRTIO).buses == (DiskBus.VIRTIO,) * 2


def test_more_disks_than_ide_takes_are_put_elsewhere_and_that_is_said() -> None:
    found = hardware_of({}, [f"0{number}" for number in range(6)])
    assert found.buses == (DiskBus.IDE,) * 4 + (DiskBus.VIRTIO,) * 2
    assert "IDE takes 4" in found.remarks[0]


def test_firmware_is_that_of_the_vmx_and_secure_boot_is_said_to_be_off() -> None:
    assert not hardware_of({}, ["00"]).uefi
    found = hardware_of({"firmware": "EFI", "uefi.secureboot.enabled": "TRUE"}, ["00"])
    assert found.uefi
    assert "Secure Boot" in found.remarks[0]


def test_by_uefi_disks_are_on_a_bus_that_it_boots_from_unless_one_is_asked_for() -> None:
    vmx = {**SCSI, "scsi0.virtualdev": "pvscsi", "firmware": "efi"}
    found = hardware_of(vmx, ["00", "sata00", "nvme00"])
    assert found.buses == (DiskBus.SATA, DiskBus.SATA, DiskBus.NVME)
    assert "on SATA" in found.remarks[0]
    assert hardware_of(vmx, ["00"], bus=DiskBus.PVSCSI).buses == (DiskBus.PVSCSI,)


@pytest.mark.parametrize("bus", list(DiskBus))
def test_qemu_takes_the_options_of_each_bus(bus: DiskBus) -> None:
    program = shutil.which("qemu-system-x86_64")
    if program is None:
        pytest.skip("qemu-system-x86_64 is not installed: its options were not tried")
    count = {DiskBus.IDE: 4, DiskBus.SATA: 7, DiskBus.LSILOGIC: 8, DiskBus.LSISAS: 9}.get(bus, 3)
    nodes = [f"d{number}" for number in range(count)]
    command = [program, "-nodefaults", "-machine", "pc", "-display", "none", "-accel", "tcg", "-S", "-monitor", "stdio"]
    for node in nodes:
        command += ["-blockdev", f"driver=null-co,node-name={node},size=1048576,read-zeroes=on"]
    ran = subprocess.run(
        [*command, *disk_arguments([bus] * count, nodes)], input="quit\n", capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr

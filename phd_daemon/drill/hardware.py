"""What machine a VMX asks for, in the words of QEMU. Pure. Only known words are taken from a VMX.

VMware's controllers have these nearest neighbours in QEMU:

    scsi: pvscsi        pvscsi                 sata    ich9-ahci
          lsisas1068    mptsas1068             nvme    nvme
          lsilogic      lsi53c895a             ide     the machine's own
          buslogic      none: IDE

SeaBIOS boots from all of them. UEFI for QEMU (OVMF, as distributions build it) has no driver for these SCSI controllers: there such
disks are on SATA.
Where the VMX says nothing the disks are on IDE, which every guest knows; from the fifth on, on virtio.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

IDE_DISKS = 4


class DiskBus(enum.StrEnum):
    """Where a disk is put. The values are what `--bus` takes."""

    IDE = "ide"
    SATA = "sata"
    NVME = "nvme"
    VIRTIO = "virtio"
    PVSCSI = "pvscsi"
    LSISAS = "lsisas1068"
    LSILOGIC = "lsilogic"


_CONTROLLERS = {
    DiskBus.SATA: ("ich9-ahci", "ide-hd", 6),
    DiskBus.VIRTIO: ("virtio-scsi-pci", "scsi-hd", 200),
    DiskBus.PVSCSI: ("pvscsi", "scsi-hd", 60),
    DiskBus.LSISAS: ("mptsas1068", "scsi-hd", 8),
    DiskBus.LSILOGIC: ("lsi53c895a", "scsi-hd", 7),
}
"""Its device in QEMU, that of its disks, and how many disks it takes."""
_UNKNOWN_TO_UEFI = {DiskBus.PVSCSI, DiskBus.LSISAS, DiskBus.LSILOGIC}


@dataclass(frozen=True, slots=True, kw_only=True)
class DrillHardware:
    """The machine: UEFI or BIOS, and the bus of each disk in the order of the disks. `remarks` say what is not as in the VMX."""

    uefi: bool
    buses: tuple[DiskBus, ...]
    remarks: tuple[str, ...] = ()


def hardware_of(vmx: Mapping[str, str], scsi_ids: Sequence[str], *, bus: DiskBus | None = None) -> DrillHardware:
    """Returns the machine for disks with these ids (`00`, `sata00`). `vmx` has its keys in lower case; it may be empty.

    `bus` overrules the VMX.
    """
    remarks: list[str] = []
    found = [bus or _bus_of(vmx, one, remarks) for one in scsi_ids]
    uefi = vmx.get("firmware", "bios").strip().lower() == "efi"
    if uefi and bus is None and _UNKNOWN_TO_UEFI.intersection(found):
        remarks.append("QEMU's UEFI does not boot from its SCSI controller: its disks are on SATA")
        found = [DiskBus.SATA if one in _UNKNOWN_TO_UEFI else one for one in found]
    if found.count(DiskBus.IDE) > IDE_DISKS:
        remarks.append(f"IDE takes {IDE_DISKS} disks: the others are on virtio")
        ide = [number for number, one in enumerate(found) if one is DiskBus.IDE]
        for number in ide[IDE_DISKS:]:
            found[number] = DiskBus.VIRTIO
    if uefi and vmx.get("uefi.secureboot.enabled", "").strip().lower() == "true":
        remarks.append("without Secure Boot, which the VMX has on")
    return DrillHardware(uefi=uefi, buses=tuple(found), remarks=tuple(dict.fromkeys(remarks)))


def _bus_of(vmx: Mapping[str, str], scsi_id: str, remarks: list[str]) -> DiskBus:
    kind = scsi_id.rstrip("0123456789")
    if kind in ("ide", "sata", "nvme"):
        return DiskBus(kind)
    controller = f"scsi{scsi_id[len(kind) :][:1]}"
    if not any(key.startswith("scsi") for key in vmx):
        return DiskBus.IDE
    model = vmx.get(f"{controller}.virtualdev", "lsilogic").strip().lower()
    known = {"pvscsi": DiskBus.PVSCSI, "lsisas1068": DiskBus.LSISAS, "lsilogic": DiskBus.LSILOGIC}
    if model not in known:
        remarks.append(f"{controller} is of a kind that QEMU has not (BusLogic, or unknown): its disks are on IDE")
    return known.get(model, DiskBus.IDE)


def disk_arguments(buses: Iterable[DiskBus], nodes: Sequence[str]) -> list[str]:
    """Returns QEMU's options that put the block nodes on these buses; it boots from the first."""
    arguments: list[str] = []
    on: dict[DiskBus, int] = {}
    for index, (bus, node) in enumerate(zip(buses, nodes, strict=True)):
        place = on[bus] = on.get(bus, -1) + 1
        if bus in _CONTROLLERS:
            controller, device, most = _CONTROLLERS[bus]
            name = f"{bus.value}{place // most}"
            if place % most == 0:
                arguments += ["-device", f"{controller},id={name}"]
            where = f",bus={name}.{place % most}" if bus is DiskBus.SATA else f",bus={name}.0,scsi-id={place % most}"
            where = f",bus={name}.0,lun={place % most}" if bus is DiskBus.VIRTIO else where
        else:
            device = "ide-hd" if bus is DiskBus.IDE else "nvme"
            where = f",bus=ide.{place // 2},unit={place % 2}" if bus is DiskBus.IDE else f",serial=phd{place}"
        errors = "" if bus is DiskBus.NVME else ",werror=stop,rerror=report"
        arguments += ["-device", f"{device},drive={node}{where},bootindex={index + 1}{errors}"]
    return arguments

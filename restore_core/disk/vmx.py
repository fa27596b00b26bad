"""Reads three facts from a VM's configuration: its name, its BIOS UUID and its disks. Never changes it.

A VMX is lines of `key = "value"`, keys in any case, `#` for comments; a quote inside a value is written `|22`. Whether
a file is a flat disk (and not a raw device mapping) is known only from its descriptor.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from restore_core.errors import BadData
from restore_core.naming import printable

MAX_VMX = 1024 * 1024
_DISK = re.compile(r"(?P<bus>scsi|ide|sata|nvme)(?P<controller>[0-9]{1,4}):(?P<unit>[0-9]{1,4})\.filename\Z")
_ESCAPE = re.compile(r"\|([0-9A-Fa-f]{2})")
_BUSES = ("scsi", "ide", "sata", "nvme")
_NOT_DISKS = ("cdrom", "atapi", "passthru")


@dataclass(frozen=True, slots=True, kw_only=True)
class VmxDisk:
    """`scsi` is the id without the colon (`00`, `010`), other buses in front (`sata00`); `file` is as written."""

    scsi: str
    file: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VmxFile:
    """The facts of a VMX. `uuid_bios` is 36 lower-case characters; disks are ordered by bus, controller and unit."""

    display_name: str | None
    uuid_bios: str | None
    disks: tuple[VmxDisk, ...]


def parse_vmx(text: str, where: str) -> VmxFile:
    """Returns the facts of a VMX; `where` is a printable name for the error. Raises `BadData` for what is not a VMX."""
    values = _values(text, where)
    return VmxFile(
        display_name=values.get("displayname"),
        uuid_bios=_uuid(values["uuid.bios"], where) if values.get("uuid.bios") else None,
        disks=tuple(disk for _order, disk in sorted(_disks(values, where), key=lambda found: found[0])),
    )


def _values(text: str, where: str) -> dict[str, str]:
    if len(text) > MAX_VMX:
        raise BadData(f"{where}: {len(text)} characters; a VMX has at most {MAX_VMX}")
    values: dict[str, str] = {}
    for number, raw in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        line = raw.strip(" \t\ufeff")
        if not line or line.startswith("#"):
            continue
        key, equals, value = line.partition("=")
        key, value = key.strip(" \t").lower(), value.strip(" \t")
        if len(value) > 1 and value.startswith('"') and value.endswith('"'):
            value = value[1:-1]
        value = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), value)
        if not equals or not key or "\0" in key + value:
            raise BadData(f"{where}:{number}: not a line of a VMX: {printable(line[:80])}")
        if values.setdefault(key, value) != value:
            raise BadData(f"{where}:{number}: {printable(key)} is given twice, with different values")
    return values


def _disks(values: dict[str, str], where: str) -> Iterator[tuple[tuple[int, int, int], VmxDisk]]:
    for key, file in values.items():
        match = _DISK.match(key)
        if match is None or not _is_disk(values, key.removesuffix(".filename"), file):
            continue
        bus, controller, unit = match["bus"], int(match["controller"]), int(match["unit"])
        # One digit is the controller (VMware has 0 to 3): with two, 1:10 and 11:0 would share a name.
        if controller > 9 or unit > 999:
            raise BadData(f"{where}: {bus}{controller}:{unit}: expected controllers 0 to 9 and units 0 to 999")
        scsi = f"{'' if bus == 'scsi' else bus}{controller}{unit}"
        yield (_BUSES.index(bus), controller, unit), VmxDisk(scsi=scsi, file=file)


def _is_disk(values: dict[str, str], slot: str, file: str) -> bool:
    present = (values.get(f"{part}.present", "TRUE").upper() for part in (slot, slot.partition(":")[0]))
    kind = values.get(f"{slot}.devicetype", "").lower()
    if "FALSE" in present or any(word in kind for word in _NOT_DISKS):
        return False
    return bool(file) and not file.lower().endswith(".iso") and file.lower() not in {"auto detect", "emptybackingstring"}


def _uuid(text: str, where: str) -> str:
    digits = re.sub(r"[ \t-]", "", text).lower()
    if not re.fullmatch(r"[0-9a-f]{32}", digits):
        raise BadData(f"{where}: uuid.bios is {printable(text[:60])!r}: expected 32 hex digits")
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))

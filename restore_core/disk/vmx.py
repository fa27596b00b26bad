"""Reads what a backup must know from a VM's configuration: its name, its BIOS UUID and its disks. Never changes it.

A VMX is lines of `key = "value"`, keys in any case; `#` outside quotes begins a comment; a quote inside a value is written `|22`.
A line that is wrong, or a key given twice, is a warning unless it concerns a disk or the UUID. Whether a file is a flat disk (and
not a raw device mapping) is known only from its descriptor.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from restore_core.errors import BadData
from restore_core.naming import printable

MAX_VMX = 1024 * 1024
_LINE = re.compile(r"(?P<key>[^\s=\"#]+)[ \t]*=[ \t]*(?:\"(?P<quoted>[^\"]*)\"|(?P<bare>[^\"#]*?))[ \t]*(?:#.*)?\Z", re.DOTALL)
_SLOT = r"(?:scsi|ide|sata|nvme)[0-9]{1,4}:[0-9]{1,4}"
_DISK = re.compile(r"(?P<bus>scsi|ide|sata|nvme)(?P<controller>[0-9]{1,4}):(?P<unit>[0-9]{1,4})\.(?P<part>filename|name)\Z")
_DECIDES = re.compile(
    rf"(?:uuid\.bios|{_SLOT}\.(?:filename|name|present|devicetype|mode)|(?:scsi|ide|sata|nvme)[0-9]{{1,4}}\.present|encryption\..*)\Z"
)
_CONCERNS = re.compile(
    rf"[^a-z0-9#]*(?:uuid\W?bios|{_SLOT}(?![0-9])|(?:scsi|ide|sata|nvme)[0-9]{{1,4}}\.present|encryption\.)", re.IGNORECASE
)
_ESCAPES = re.compile(r"(?:\|[0-9A-Fa-f]{2})+")
_BUSES = ("scsi", "ide", "sata", "nvme")
_NOT_DISKS = ("cdrom", "atapi", "passthru")
_NO_FILE = {"", "auto detect", "emptybackingstring"}
_CD_DEVICE = re.compile(r"/dev/(?:cdrom|dvd|scd|sr)[0-9]*\Z")
_TRUE, _FALSE = {"true", "t", "yes", "y", "on", "1"}, {"false", "f", "no", "n", "off", "0"}


@dataclass(frozen=True, slots=True, kw_only=True)
class VmxDisk:
    """`scsi` is the id without the colon (`00`, `010`), other buses in front (`sata00`); `file` is as written.

    `trouble` says why `file` is no path of this machine, None if it is one. Snapshots leave an `independent` disk out.
    """

    scsi: str
    file: str
    trouble: str | None = None
    independent: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VmxFile:
    """The facts of a VMX. `uuid_bios` is 36 lower-case characters; disks are ordered by bus, controller and unit.

    Of an `encrypted` one a part cannot be read: it may have other disks. `warnings` are the lines that were passed over.
    """

    display_name: str | None
    uuid_bios: str | None
    disks: tuple[VmxDisk, ...]
    encrypted: bool = False
    warnings: tuple[str, ...] = ()


def parse_vmx(text: str, where: str) -> VmxFile:
    """Returns the facts of a VMX; `where` is a printable name for the error.

    Raises `BadData` for what is not a VMX, and where a line that concerns a disk or the UUID is wrong.
    """
    values, warnings = _values(text, where)
    return VmxFile(
        display_name=values.get("displayname"),
        uuid_bios=_uuid(values["uuid.bios"], where) if values.get("uuid.bios") else None,
        disks=tuple(disk for _order, disk in sorted(_disks(values, where), key=lambda found: found[0])),
        encrypted=any(key.startswith("encryption.") and value for key, value in values.items()),
        warnings=tuple(warnings),
    )


def vmx_values(text: str, where: str) -> dict[str, str]:
    """Returns all values of a VMX by their keys in lower case; the first of those that are given twice. Raises as `parse_vmx`."""
    return _values(text, where)[0]


def _values(text: str, where: str) -> tuple[dict[str, str], list[str]]:
    if len(text) > MAX_VMX:
        raise BadData(f"{where}: {len(text)} characters; a VMX has at most {MAX_VMX}")
    values: dict[str, str] = {}
    warnings: list[str] = []
    for number, raw in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), start=1):
        line = raw.strip(" \t\ufeff")
        if not line or line.startswith("#"):
            continue
        match = _LINE.match(line)
        key = match["key"].lower() if match is not None else ""
        value = _unescaped(match["quoted"] if match["quoted"] is not None else match["bare"]) if match is not None else ""
        if match is None or "\0" in key + value:
            problem = f"{where}:{number}: not a line of a VMX: {printable(line[:80])}"
            if _CONCERNS.match(line):
                raise BadData(f"{problem}; it concerns a disk or the UUID")
            warnings.append(problem)
        elif values.setdefault(key, value) != value:
            problem = f"{where}:{number}: {printable(key)} is given twice, with different values"
            if _DECIDES.match(key):
                raise BadData(problem)
            warnings.append(problem)
    if warnings and not values:
        raise BadData(warnings[0])
    return values, warnings


def _unescaped(value: str) -> str:
    """Returns the value with `|HH` as the bytes that they stand for: UTF-8, or one character each where they are not."""

    def plain(match: re.Match[str]) -> str:
        data = bytes.fromhex(match[0].replace("|", ""))
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            return data.decode("latin-1")

    return _ESCAPES.sub(plain, value)


def _disks(values: dict[str, str], where: str) -> Iterator[tuple[tuple[int, int, int], VmxDisk]]:
    for key, file in values.items():
        match = _DISK.match(key)
        slot = key.rpartition(".")[0]
        if match is None or (match["part"] == "name" and values.get(f"{slot}.filename")):
            continue
        if not _is_disk(values, slot, file, where):
            continue
        bus, controller, unit = match["bus"], int(match["controller"]), int(match["unit"])
        # One digit is the controller (VMware has 0 to 3): with two, 1:10 and 11:0 would share a name.
        if controller > 9 or unit > 999:
            raise BadData(f"{where}: {bus}{controller}:{unit}: expected controllers 0 to 9 and units 0 to 999")
        scsi = f"{'' if bus == 'scsi' else bus}{controller}{unit}"
        trouble = f"it is given by {slot}.name, as ESX 2 did" if match["part"] == "name" else _no_path(file)
        yield (
            (_BUSES.index(bus), controller, unit),
            VmxDisk(
                scsi=scsi,
                file=file,
                trouble=trouble,
                independent=values.get(f"{slot}.mode", "").strip().lower().startswith("independent"),
            ),
        )


def _no_path(file: str) -> str | None:
    if file.startswith("["):
        return "a path of vSphere ([DATASTORE] FOLDER/NAME), of which only the host knows where it is"
    if re.match(r"[A-Za-z]:[\\/]|\\\\", file) or ("\\" in file and "/" not in file):
        return "a path of Windows"
    if re.match(r"[a-z][a-z0-9+.-]+://", file, re.IGNORECASE):
        return "an address, not a path"
    if re.match(r"vmhba[0-9]+:", file, re.IGNORECASE):
        return "a path of ESX 2 (vmhbaA:T:L:P:NAME)"
    return None


def _is_disk(values: dict[str, str], slot: str, file: str, where: str) -> bool:
    for part in (slot, slot.partition(":")[0]):
        present = values.get(f"{part}.present", "TRUE").strip().lower() or "true"
        if present in _FALSE:
            return False
        if present not in _TRUE:
            raise BadData(f"{where}: {part}.present is {printable(present[:40])!r}: expected TRUE or FALSE")
    kind = values.get(f"{slot}.devicetype", "").lower()
    if any(word in kind for word in _NOT_DISKS):
        return False
    without_kind = not kind and (f"{slot}.autodetect" in values or _CD_DEVICE.match(file))
    return not (without_kind or file.lower().endswith(".iso") or file.lower() in _NO_FILE)


def _uuid(text: str, where: str) -> str:
    digits = re.sub(r"[ \t-]", "", text).lower()
    if not re.fullmatch(r"[0-9a-f]{32}", digits):
        raise BadData(f"{where}: uuid.bios is {printable(text[:60])!r}: expected 32 hex digits")
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))

"""The text descriptor of a VMDK: reads it, tells whether the disk is flat, and writes one that VMware and qemu accept.

    # Disk DescriptorFile
    version=1
    CID=fffffffe
    parentCID=ffffffff
    createType="vmfs"
    RW 8388608 VMFS "CRM-flat.vmdk"
    ddb.adapterType = "lsilogic"

Measured on qemu-img 7.2: an extent of type VMFS must not carry an offset, one of type FLAT must; a descriptor without
`parentCID` and an extent of 0 sectors are refused; an extent larger than its file is accepted without an error, so the
reader of a descriptor has to compare the sizes.
"""

from __future__ import annotations

import os
import re
import secrets
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, replace

from restore_core.disk.encodings import read_text
from restore_core.errors import BadData, DestinationError
from restore_core.naming import printable

MAX_DESCRIPTOR = 64 * 1024
SECTOR = 512
NO_PARENT = "ffffffff"
_HEADS, _SECTORS_PER_TRACK = 255, 63
_MAX_SECTORS = 2**63 // SECTOR
_EXTENT = re.compile(
    r"(?P<access>RW|RDONLY|NOACCESS)[ \t]+(?P<sectors>[0-9]{1,19})[ \t]+(?P<type>[A-Z]+)"
    r'(?:[ \t]+"(?P<file>[^"]+)"(?:[ \t]+(?P<offset>[0-9]{1,19}))?(?:[ \t]+partitionUUID[ \t].*)?)?\Z',
    re.IGNORECASE,
)
_KEY = re.compile(r"[A-Za-z0-9_.:-]+\Z")
_CID = re.compile(r"[0-9a-f]{1,8}\Z")
_DELTA_FILE = re.compile(r"-[0-9]{6}(?:-delta|-sesparse)?\.vmdk\Z", re.IGNORECASE)
_FLAT_TYPES = {"monolithicflat", "vmfs", "vmfspreallocated", "vmfseagerzeroedthick", "vmfsthin"}
_SPLIT_TYPES = {"twogbmaxextentflat", "twogbmaxextentsparse"}
_SPARSE_TYPES = {"monolithicsparse", "streamoptimized", "vmfssparse", "sesparse"}
_RAW_TYPES = {
    *("vmfsrdm", "vmfsrdmp", "vmfsraw", "vmfsrawdevicemap", "vmfspassthroughrawdevicemap"),
    *("fulldevice", "partitioneddevice"),
}
_RAW_EXTENTS = {"VMFSRDM", "VMFSRAW"}
_ENCRYPTION_KEYS = ("encryption", "keyid", "keysafe")
# These name other files, filters or parents of the old disk; the restored disk has none.
_DROPPED_DDB = ("ddb.thinprovisioned", "ddb.sidecar", "ddb.iofilter", "ddb.native", "ddb.objectparent")


class SparseVmdk(BadData):
    """A VMDK whose blocks lie inside the file, in an order of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VmdkExtent:
    """One extent line. `sectors` and `offset` count 512 bytes; `file` is as written and not checked."""

    access: str
    sectors: int
    type: str
    file: str | None
    offset: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VmdkDescriptor:
    """A parsed descriptor. CIDs are 8 lower-case hex digits, `ddb` keeps order and spelling, `text` is what was read.

    Of a loaded one `text` is the bytes of the file as UTF-8 with surrogates, whatever its encoding is.
    """

    version: int
    cid: str
    parent_cid: str
    create_type: str
    parent_hint: str | None
    encrypted: bool
    extents: tuple[VmdkExtent, ...]
    ddb: tuple[tuple[str, str], ...]
    text: str

    @property
    def size(self) -> int:
        """The bytes of the disk by its extents."""
        return sum(extent.sectors for extent in self.extents) * SECTOR


def parse_descriptor(text: str, where: str) -> VmdkDescriptor:
    """Returns the facts of a descriptor; `where` is a printable name for the error. Raises `BadData` for anything else."""
    if len(text) > MAX_DESCRIPTOR:
        raise BadData(f"{where}: {len(text)} characters; a VMDK descriptor has at most {MAX_DESCRIPTOR}")
    values: dict[str, str] = {}
    extents: list[VmdkExtent] = []
    ddb: list[tuple[str, str]] = []
    for number, raw in enumerate(text.replace("\r\n", "\n").split("\n"), start=1):
        line = raw.strip(" \t\ufeff")
        if not line or line.startswith("#"):
            continue
        place = f"{where}:{number}"
        if any(unicodedata.category(character) == "Cc" and character != "\t" for character in line):
            raise BadData(f"{place}: control characters: this is no VMDK descriptor")
        key, equals, value = line.partition("=")
        key = key.rstrip(" \t")
        if not (equals and _KEY.match(key)):
            extents.append(_extent(line, place))
        elif key.lower().startswith("ddb."):
            ddb.append((key, _unquoted(value, place)))
        elif values.setdefault(key.lower(), _unquoted(value, place)) != _unquoted(value, place):
            raise BadData(f"{place}: {key} is given twice, with different values")
    return _descriptor(values, tuple(extents), tuple(ddb), text=text, where=where)


def load_descriptor(fd: int, where: str, there: Callable[[str], bool] = lambda _name: True) -> VmdkDescriptor:
    """Returns the descriptor in an open file, read by the encoding that it names.

    `there` says whether a file of this name is there: the label may be wrong, and the reading is taken whose files are there.
    Raises `BadData` for anything else, and says what it is.
    """
    data = os.pread(fd, MAX_DESCRIPTOR + 1, 0)
    if data[:4] in (b"KDMV", b"COWD") or data[:8] == b"\xbe\xba\xfe\xca\0\0\0\0":
        raise SparseVmdk(f"{where}: a sparse VMDK (its blocks lie inside the file, in an order of their own), not a descriptor")
    if len(data) > MAX_DESCRIPTOR:
        raise BadData(f"{where}: larger than {MAX_DESCRIPTOR} bytes: disk data, not a descriptor")
    # QEMU rewrites a descriptor when the disk is first written (a new CID) and leaves zeros behind it.
    return _read(data.rstrip(b"\0"), where, lambda found: all(there(extent.file or "") for extent in found.extents))


def _read(data: bytes, where: str, fits: Callable[[VmdkDescriptor], bool] = lambda _found: True) -> VmdkDescriptor:
    found = read_text(data, where, lambda text: parse_descriptor(text, where), fits)
    return replace(found, text=data.decode("utf-8", "surrogateescape"))


def why_not_flat(descriptor: VmdkDescriptor) -> str | None:
    """Returns what kind of disk this is, None if it is one flat file without a parent. Pure."""
    kind = descriptor.create_type.lower()
    types = {extent.type for extent in descriptor.extents}
    files = [extent.file or "" for extent in descriptor.extents]
    if descriptor.encrypted:
        return "an encrypted disk"
    if descriptor.parent_cid != NO_PARENT or descriptor.parent_hint or any(_DELTA_FILE.search(file) for file in files):
        return f"a snapshot of {printable(descriptor.parent_hint)}" if descriptor.parent_hint else "a snapshot of another disk"
    if kind in _RAW_TYPES or types & _RAW_EXTENTS:
        return f"a raw device mapping ({printable(descriptor.create_type)})"
    if kind in _SPARSE_TYPES or any(type_.endswith("SPARSE") for type_ in types):
        return f"a sparse disk ({printable(descriptor.create_type)})"
    if kind in _SPLIT_TYPES or len(descriptor.extents) > 1:
        return f"a disk split into {len(descriptor.extents)} extents ({printable(descriptor.create_type)})"
    extent = descriptor.extents[0]
    if kind not in _FLAT_TYPES or extent.type not in {"FLAT", "VMFS"} or extent.file is None:
        return f"of an unknown kind ({printable(descriptor.create_type)}, extent type {printable(extent.type)})"
    if extent.offset or extent.access == "NOACCESS":
        return f"a disk whose extent starts at sector {extent.offset or 0} with access {extent.access}"
    return None


def render_descriptor(*, flat_name: str, size: int, thin: bool, original: str | None) -> str:
    """Returns the descriptor of a flat file of `size` bytes that lies beside it under `flat_name`.

    CID and disk data base (adapter, geometry, UUIDs, hardware version) come from the `original` text if there is one;
    its parent, change tracking and side files do not. Raises `DestinationError` for a size or name that no descriptor
    can carry, `BadData` if the original is not a descriptor.
    """
    check_extent_name(flat_name)
    check_vmdk_size(size, printable(flat_name))
    old = None if original is None else _read(original.encode("utf-8", "surrogateescape"), "the VMDK descriptor in the archive")
    sectors = size // SECTOR
    create_type, extent = "vmfs", f'RW {sectors} VMFS "{flat_name}"'
    if old is not None and old.create_type.lower() == "monolithicflat":
        create_type, extent = "monolithicFlat", f'RW {sectors} FLAT "{flat_name}" 0'
    cid = f"{secrets.randbelow(0xFFFFFFFE):08x}" if old is None else old.cid
    head = ["# Disk DescriptorFile", "version=1", 'encoding="UTF-8"', f"CID={cid}", f"parentCID={NO_PARENT}"]
    ddb = _new_ddb(sectors) if old is None else [pair for pair in old.ddb if _belongs(*pair)]
    if thin:
        ddb.append(("ddb.thinProvisioned", "1"))
    lines = [*head, f'createType="{create_type}"', "", "# Extent description", extent, "", "# The Disk Data Base", "#DDB", ""]
    return "\n".join([*lines, *(f'{key} = "{value}"' for key, value in ddb)]) + "\n"


def check_vmdk_size(size: int, where: str) -> None:
    """Raises `DestinationError` unless a descriptor can hold the size: whole sectors, and at least one (qemu refuses 0)."""
    if size <= 0 or size % SECTOR or size // SECTOR >= _MAX_SECTORS:
        raise DestinationError(
            f"{where}: a disk of {size} bytes cannot be a VMDK, which has one or more whole sectors of {SECTOR} bytes",
            remedy="Restore it to a raw name instead, such as DISK.img.",
        )


def check_extent_name(name: str) -> None:
    """Raises `DestinationError` unless the name can stand between the quotes of an extent line."""
    bad = [character for character in name if character in '"/' or unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}]
    if bad or not name:
        raise DestinationError(
            f"{printable(name) or 'an empty name'}: a VMDK descriptor cannot carry this name"
            + (f" (it holds {printable(bad[0])!r})" if bad else ""),
            remedy="Choose a name without quotes, slashes and control characters.",
        )


def is_vmdk_name(name: str) -> bool:
    """Whether the name has the suffix of a VMDK, in either case."""
    return name.lower().endswith(".vmdk")


def is_flat_name(name: str) -> bool:
    """Whether this is a name for the data file of a VMDK."""
    return name.lower().endswith("-flat.vmdk")


def flat_name_for(vmdk_name: str) -> str:
    """`CRM.vmdk` -> `CRM-flat.vmdk`. The name must be a VMDK's."""
    return f"{vmdk_name[:-5]}-flat{vmdk_name[-5:]}"


def descriptor_name_for(flat_name: str) -> str:
    """`CRM-flat.vmdk` -> `CRM.vmdk`. The name must be a flat file's."""
    return flat_name[: -len("-flat.vmdk")] + flat_name[-5:]


def _extent(line: str, place: str) -> VmdkExtent:
    match = _EXTENT.match(line)
    if match is None or int(match["sectors"]) >= _MAX_SECTORS:
        raise BadData(f"{place}: neither a setting nor an extent: {printable(line[:80])}")
    return VmdkExtent(
        access=match["access"].upper(),
        sectors=int(match["sectors"]),
        type=match["type"].upper(),
        file=match["file"],
        offset=None if match["offset"] is None else int(match["offset"]),
    )


def _unquoted(value: str, place: str) -> str:
    value = value.strip(" \t")
    if value.startswith('"') and value.endswith('"') and len(value) > 1:
        value = value[1:-1]
    if '"' in value:
        raise BadData(f"{place}: quotes that do not match: {printable(value[:80])}")
    return value


def _descriptor(
    values: dict[str, str], extents: tuple[VmdkExtent, ...], ddb: tuple[tuple[str, str], ...], *, text: str, where: str
) -> VmdkDescriptor:
    encrypted = any(key.startswith(_ENCRYPTION_KEYS) and value for key, value in values.items())
    missing = [key for key in ("version", "CID", "parentCID", "createType") if not values.get(key.lower())]
    if missing and encrypted:
        raise BadData(f"{where}: an encrypted disk: its descriptor cannot be read")
    if missing:
        raise BadData(f"{where}: no {', no '.join(missing)}: this is no VMDK descriptor")
    if not extents:
        raise BadData(f"{where}: a VMDK descriptor without an extent")
    if values["version"] not in {"1", "2", "3", "4"}:
        raise BadData(f"{where}: VMDK descriptor of version {printable(values['version'][:20])}; 1 to 4 are known")
    if sum(extent.sectors for extent in extents) >= _MAX_SECTORS:
        raise BadData(f"{where}: its extents add up to more than a disk can have")
    return VmdkDescriptor(
        version=int(values["version"]),
        cid=_cid(values["cid"], where),
        parent_cid=_cid(values["parentcid"], where),
        create_type=values["createtype"],
        parent_hint=values.get("parentfilenamehint") or None,
        encrypted=encrypted or any("filter" in key.lower() and "crypt" in value.lower() for key, value in ddb),
        extents=extents,
        ddb=ddb,
        text=text,
    )


def _cid(text: str, where: str) -> str:
    if not _CID.match(text.lower()):
        raise BadData(f"{where}: content id {printable(text[:20])!r}: expected up to 8 hex digits")
    return text.lower().rjust(8, "0")


def _belongs(key: str, value: str) -> bool:
    # A value in another encoding would make a descriptor that is not in UTF-8, as its head says.
    return not key.lower().startswith(_DROPPED_DDB) and value.isprintable()


def _new_ddb(sectors: int) -> list[tuple[str, str]]:
    cylinders = max(1, sectors // (_HEADS * _SECTORS_PER_TRACK))
    return [
        ("ddb.virtualHWVersion", "4"),
        ("ddb.geometry.cylinders", str(cylinders)),
        ("ddb.geometry.heads", str(_HEADS)),
        ("ddb.geometry.sectors", str(_SECTORS_PER_TRACK)),
        ("ddb.adapterType", "lsilogic"),
    ]

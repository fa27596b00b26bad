"""Finds the logical volumes of LVM2 on one disk: label, physical volume, and the text in which LVM keeps its volume group.

Linear volumes whose extents are all on this physical volume can be read: that is what installers make. Thin, mirrored, cached and
striped ones, and those that go on on another disk, are named in `marks`. What the text says is checked like a partition table.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from restore_core.naming import printable

_INITIAL = 0xF597A6CF
_MAX_TEXT = 4 << 20
_MAX_DEPTH = 10
_MAX_SEGMENTS = 10_000
_NAME = re.compile(r"[A-Za-z0-9+_.-]{1,127}\Z")
_TOKEN = re.compile(r'\s*(?:#[^\n]*\n\s*)*(?:"((?:[^"\\]|\\.)*)"|([{}=\[\],])|(-?\d+)(?![\w.+-])|([\w.+-]+))')
_Section: TypeAlias = dict[str, Any]


class _Broken(Exception):
    """The metadata cannot be right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogicalVolume:
    """A volume that can be read: its group, its name, and the (offset, length) of its parts on the physical volume, in order."""

    group: str
    name: str
    segments: tuple[tuple[int, int], ...]


def read_logical_volumes(label: bytes, read: Any, size: int) -> tuple[list[LogicalVolume], list[str]]:
    """Returns the logical volumes of a physical volume of `size` bytes, and marks for those that are not read.

    `label` are its first 2048 bytes, `read(offset, length)` returns others. Raises what that raises.
    """
    try:
        own_id, text = _metadata(label, read, size)
        group, tree = next(((name, value) for name, value in _parse(text).items() if isinstance(value, dict)), ("", {}))
        return _volumes(group, tree, own_id, size)
    except (_Broken, struct.error, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        return [], [f"its LVM metadata cannot be read: {printable(str(error))[:200]}"]


def _metadata(label: bytes, read: Any, size: int) -> tuple[str, str]:
    """Returns the id of the physical volume and the newest text of its group."""
    at = next((sector for sector in range(0, 2048, 512) if label[sector : sector + 8] == b"LABELONE"), None)
    if at is None:
        raise _Broken("there is no label")
    header = at + struct.unpack_from("<I", label, at + 20)[0]
    own_id = label[header : header + 32].decode("ascii")
    areas = [struct.unpack_from("<QQ", label, place) for place in range(header + 40, min(header + 40 + 16 * 20, 2032), 16)]
    ends = [index for index, area in enumerate(areas) if area[0] == 0]
    if len(ends) < 2:
        raise _Broken("the list of areas has no end")
    for start, length in areas[ends[0] + 1 : ends[1]]:
        if length < 1024 or start + length > size:
            raise _Broken("an area of metadata lies outside")
        if text := _text(read, start, length):
            return own_id, text
    raise _Broken("there is no metadata in it (pvcreate --metadatacopies 0?)")


def _text(read: Any, start: int, length: int) -> str:
    """Returns the text in an area, a ring; '' if its checksum is wrong."""
    head = read(start, 512)
    offset, size, checksum, flags = struct.unpack_from("<QQII", head, 40)
    if head[4:20] != b" LVM2 x[5A%r0N*>" or _crc(head[4:]) != struct.unpack_from("<I", head)[0] or flags & 1:
        return ""
    if not 0 < size <= min(_MAX_TEXT, length - 512) or not 512 <= offset < length:
        return ""
    first = min(size, length - offset)
    raw = read(start + offset, first) + (read(start + 512, size - first) if first < size else b"")
    return raw.rstrip(b"\0").decode("utf-8", "replace") if _crc(raw) == checksum else ""


def _crc(data: bytes) -> int:
    return zlib.crc32(data, _INITIAL ^ 0xFFFFFFFF) ^ 0xFFFFFFFF


def _parse(text: str) -> _Section:
    tokens = _tokens(text)
    return _section(tokens, 0)


def _tokens(text: str) -> Iterator[str | int]:
    """Yields names and punctuation as text, a string with a quote before it, and numbers."""
    at = 0
    while match := _TOKEN.match(text, at):
        at = match.end()
        quoted, mark, number, name = match.groups()
        if quoted is not None:
            yield f'"{quoted}'
        elif number is not None:
            yield int(number[:30])
        else:
            yield mark or name


def _section(tokens: Iterator[str | int], depth: int) -> _Section:
    if depth > _MAX_DEPTH:
        raise _Broken("sections in sections without end")
    found: _Section = {}
    for name in tokens:
        if name == "}":
            return found
        match next(tokens, None):
            case "{":
                found[str(name)] = _section(tokens, depth + 1)
            case "=":
                found[str(name)] = _value(tokens)
            case other:
                raise _Broken(f"{other} behind {name}")
    return found


def _value(tokens: Iterator[str | int]) -> Any:
    first = next(tokens, None)
    if first != "[":
        return first[1:] if isinstance(first, str) else first
    values = list[Any]()
    for word in tokens:
        if word == "]":
            return values
        if word != ",":
            values.append(word[1:] if isinstance(word, str) else word)
    raise _Broken("a list without end")


def _volumes(group: str, tree: _Section, own_id: str, size: int) -> tuple[list[LogicalVolume], list[str]]:
    extent = int(tree["extent_size"]) * 512
    ours = {name: int(pv["pe_start"]) * 512 for name, pv in tree["physical_volumes"].items() if pv["id"].replace("-", "") == own_id}
    found, marks = list[LogicalVolume](), list[str]()
    if not _NAME.match(group) or extent <= 0:
        raise _Broken("the group has no name, or no size of extents")
    for name, volume in tree.get("logical_volumes", {}).items():
        if not _NAME.match(name) or "VISIBLE" not in volume["status"]:
            continue
        segments = _segments(volume, ours, extent, size)
        if isinstance(segments, str):
            marks.append(f"the logical volume {group}/{name} is not read: {segments}")
        else:
            found.append(LogicalVolume(group=group, name=name, segments=segments))
    return found, marks


def _segments(volume: _Section, ours: dict[str, int], extent: int, size: int) -> tuple[tuple[int, int], ...] | str:
    """Returns where the parts of a volume lie, or why it cannot be read."""
    count = int(volume["segment_count"])
    if not 0 < count <= _MAX_SEGMENTS:
        return f"it has {count} segments"
    parts: list[tuple[int, int]] = []
    expected = 0
    for number in range(1, count + 1):
        segment = volume[f"segment{number}"]
        first, extents, kind = int(segment["start_extent"]), int(segment["extent_count"]), segment["type"]
        if kind != "striped" or int(segment["stripe_count"]) != 1:
            return f"it is of the kind {printable(str(kind))}" if kind != "striped" else "it is striped"
        place, begin = segment["stripes"][:2]
        if place not in ours:
            return "a part of it is on another disk"
        start, length = ours[place] + int(begin) * extent, extents * extent
        if first != expected or extents <= 0 or start < 0 or start + length > size:
            return "its segments lie outside of the disk, or in no order"
        expected += extents
        parts.append((start, length))
    return tuple(parts)

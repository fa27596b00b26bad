"""Decodes the text files of VMware, a VMX or a VMDK descriptor, by the encoding that they name in themselves.

The label may be wrong, or of a program with other names for encodings. So there may be several readings, the likeliest first, and
the one fits whose files are there. Bytes that no reading explains stay as they are (as surrogates): the name of a file
may be such bytes.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from typing import TypeVar

from restore_core.errors import BadData
from restore_core.naming import printable

ReadAs = TypeVar("ReadAs")
_LABEL = re.compile(r"^[ \t\ufeff]*\.?encoding[ \t]*=[ \t]*\"?([A-Za-z0-9_.:,-]{1,60})", re.MULTILINE | re.IGNORECASE)
_NUMBERED = re.compile(r"(?:windows|ibm|cp|ms)[-_]?(\d{3,5})", re.IGNORECASE)
_IBM = {"943": "cp932", "1386": "gbk", "1363": "cp949", "5348": "cp1252", "5346": "cp1250", "5347": "cp1251"}
_LARGER = {"shift_jis": "cp932", "gb2312": "gb18030", "gbk": "gb18030", "euc_kr": "cp949", "iso8859-1": "cp1252"}
"""What programs write under a narrower label."""
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


def read_text(
    data: bytes, where: str, parse: Callable[[str], ReadAs], fits: Callable[[ReadAs], bool] = lambda _found: True
) -> ReadAs:
    """Returns what `parse` makes of the first reading that `fits`, else of the likeliest one.

    Raises what `parse` raises, and `BadData` for an encoding that is not known while no other reading fits.
    """
    texts, unknown = readings(data)
    first: ReadAs | None = None
    failed: BadData | None = None
    for text in texts:
        try:
            found = parse(text)
        except BadData as error:
            failed = failed or error
            continue
        if fits(found):
            return found
        first = first or found
    if unknown is not None:
        raise BadData(
            f"{where}: its encoding {printable(unknown)!r} is not known here, and as UTF-8 it names no file that is there"
        )
    if first is None:
        raise failed or BadData(f"{where}: not a text")
    return first


def readings(data: bytes) -> tuple[list[str], str | None]:
    """Returns the texts that these bytes may be, the likeliest first, and the label that is not known if it matters. Pure."""
    if data.startswith(codecs.BOM_UTF16_LE) and len(data) % 2:
        data += b"\0"  # the zeros behind a text were cut off, and one of them was its own
    for bom, codec in _BOMS:
        if data.startswith(bom):
            return [data[len(bom) :].decode(codec, "surrogateescape" if codec == "utf-8" else "replace")], None
    if data[1:2] == b"\0" and data[:1].isascii():  # UTF-16 of a program that writes no mark
        return [data.decode("utf-16-le", "replace")], None
    plain = data.decode("utf-8", "surrogateescape")
    label = _LABEL.search(plain)
    if label is None or data.isascii():
        return [plain], None
    codec_name = _codec(label[1])
    names = [codec_name, _LARGER.get(codec_name, codec_name)] if codec_name is not None else []
    texts = [text for name in names if (text := _decoded(data, name)) is not None and _LABEL.search(text)]
    return list(dict.fromkeys([*texts, plain])), label[1] if codec_name is None else None


def _codec(label: str) -> str | None:
    """Returns Python's name for an encoding, None if it knows none."""
    numbered = _NUMBERED.match(label)
    for name in (label, *(() if numbered is None else (_IBM.get(numbered[1], f"cp{numbered[1]}"),))):
        try:
            b"a".decode(name)
            return codecs.lookup(name).name
        except (LookupError, ValueError):
            continue
    return None


def _decoded(data: bytes, codec: str) -> str | None:
    try:
        return data.decode(codec)
    except ValueError:
        return None

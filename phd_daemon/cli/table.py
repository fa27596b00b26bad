"""A table for a terminal: as columns where they fit, else its widest columns below each row. Nothing is ever cut or folded.

    JOB  STATE    PRIO  BY    SINCE
    crm  running  5     root  2026-11-22 17:00
      TO    /vmfs/volumes/ISCSI02/ronzo/CRM.vmdk
      WHAT  Delta: 67% Full: 32%, 1300 mb of 4096 mb, at 11 meg/sec, Elapsed: 01:50s Remain: 04:14s

A name that is cut or folded could not be copied into the next command; one that is longer than the line the terminal itself wraps.
"""

from __future__ import annotations

from collections.abc import Sequence

_GAP = 2


def layout(titles: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """The lines of the table; the first one holds the titles of the columns. Cells are safe to print, in one line each."""
    widths = [max(map(_width, column)) for column in zip(titles, *rows, strict=True)]
    across, below = list(range(len(titles))), []
    while len(across) > 1 and sum(widths[at] + _GAP for at in across) - _GAP > width:
        widest = max(across[1:], key=lambda at: widths[at])  # the first column names the row
        across.remove(widest)
        below.append(widest)
    indent = max((len(titles[at]) for at in below), default=0)

    def line(cells: Sequence[str]) -> str:
        return "".join(cells[at] + " " * (widths[at] - _width(cells[at]) + _GAP) for at in across).rstrip()

    lines = [line(titles)]
    for row in rows:
        lines.append(line(row))
        lines += [f"  {titles[at]:<{indent}}  {row[at]}" for at in sorted(below) if row[at]]
    return lines


def _width(text: str) -> int:
    """Columns on a terminal: a Chinese character takes two."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)

"""A table for a terminal, in columns; a cell that does not fit stands below its row. Nothing is cut or folded.

    JOB   STATE    PRIO  BY    SINCE             TO
    crm   running  5     root  2026-11-22 17:00
      TO    /vmfs/volumes/ISCSI02/ronzo/CRM.vmdk
      WHAT  Delta: 67% Full: 32%, 1300 mb of 4096 mb, at 11 meg/sec, Elapsed: 01:50s Remain: 04:14s
    mail  waiting  5     root  2026-11-22 17:01  /vmfs/m.vmdk
      WHAT  waits for its turn

A name that is cut or folded cannot be copied into the next command. The terminal itself wraps what is longer than its lines.
"""

from __future__ import annotations

from collections.abc import Sequence

_GAP = 2


def layout(titles: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Returns the lines of the table; the first one holds the titles. Each cell is one line, and safe to print."""
    head, *of_rows = by_row(titles, rows, width)
    return [*head, *(line for lines in of_rows for line in lines)]


def by_row(titles: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[list[str]]:
    """Returns the line of the titles, then the lines of each row."""
    widths = [max(map(width_of, column)) for column in zip(titles, *rows, strict=True)]
    across = _across(titles, rows, widths, width)
    found = [[at for at, cell in enumerate(row) if cell and (at not in across or width_of(cell) > widths[at])] for row in rows]
    indent = max((len(titles[at]) for ones in found for at in ones), default=0)
    lines = [[_line(titles, across, widths)]]
    for row, ones in zip(rows, found, strict=True):
        cells = ["" if at in ones else cell for at, cell in enumerate(row)]
        lines.append([_line(cells, across, widths), *(f"  {line}" for line in below(titles, row, ones, indent))])
    return lines


def below(titles: Sequence[str], cells: Sequence[str], which: Sequence[int], indent: int | None = None) -> list[str]:
    """Returns a line for each of these cells of a row, which do not stand whole in it: the title and the whole cell."""
    wide = max((len(titles[at]) for at in which), default=0) if indent is None else indent
    return [f"{titles[at]:<{wide}}  {cells[at]}" if wide else cells[at] for at in which]


def _across(titles: Sequence[str], rows: Sequence[Sequence[str]], widths: list[int], width: int) -> list[int]:
    """Returns the columns that stand side by side. One may be made narrower in `widths`: its longest cells go below then."""
    across = list(range(len(titles)))
    while len(across) > 1 and (over := sum(widths[at] + _GAP for at in across) - _GAP - width) > 0:
        narrower = [found for at in across[1:] if (found := _narrower(at, titles, rows, widths[at] - over))]
        if narrower:
            _, at, widths[at] = min(narrower)
            return across
        across.remove(max(across[1:], key=lambda at: widths[at]))  # the first column names the row, and stays
    return across


def _narrower(at: int, titles: Sequence[str], rows: Sequence[Sequence[str]], room: int) -> tuple[int, int, int] | None:
    """Returns how many cells of a column would go below if it had this room, the column, and its width; None if all would."""
    cells = [width_of(row[at]) for row in rows if row[at]]
    fitting = [long for long in cells if long <= room]
    if not fitting or room < len(titles[at]):
        return None
    return len(cells) - len(fitting), at, max(len(titles[at]), *fitting)


def _line(cells: Sequence[str], across: Sequence[int], widths: Sequence[int]) -> str:
    return "".join(cells[at] + " " * (widths[at] - width_of(cells[at]) + _GAP) for at in across).rstrip()


def width_of(text: str) -> int:
    """Returns how many places of a terminal the text takes: two for a Chinese character."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)

"""Lines of text in the cells of a terminal, of which a Chinese character takes two. Pure functions for both faces."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.cells import chop_cells, set_cell_size

from phd_daemon.show.output import harmless
from phd_daemon.show.table import width_of

_TAB = 8
_LEAST = 12


def one_line(text: str) -> str:
    """One line without control characters."""
    return harmless(text.expandtabs(_TAB))


def fit(text: str, width: int) -> str:
    """Exactly `width` cells: cut, or filled with spaces."""
    return f"{text[:width]:<{width}}" if text.isascii() else set_cell_size(text, width)


def fold(text: str, width: int) -> list[str]:
    """The line in pieces of at most `width` cells, broken at a space if one is in the second half."""
    pieces = []
    while width_of(text) > width > 1:
        piece = text[:width] if text.isascii() else chop_cells(text, width)[0]
        space = piece.rfind(" ")
        if space > len(piece) // 2 and text[len(piece)] != " ":
            piece = piece[: space + 1]
        pieces.append(piece.rstrip())
        text = text[len(piece) :].removeprefix(" ")
    return [*pieces, text]


def fold_all(lines: Iterable[str], width: int) -> list[str]:
    """Every line, folded."""
    return [piece for line in lines for piece in fold(line, width)]


def clean_lines(lines: Iterable[str]) -> list[str]:
    """Lines out of texts that may hold several each."""
    return [one_line(line) for text in lines for line in text.split("\n")]


def columns(rows: Sequence[Sequence[str]], titles: Sequence[str]) -> list[list[int]]:
    """How wide the cells of each column are, its title first. A row with fewer cells than others says something else."""
    count = max(len(titles), *map(len, rows), 0)
    full = [row for row in rows if len(row) == count]
    return [list(map(width_of, column)) for column in zip([*titles, *[""] * (count - len(titles))], *full, strict=True)]


def row_text(cells: Sequence[str], widths: Sequence[int]) -> str:
    """The cells of a row in their columns, two spaces between; a row with fewer cells is not aligned. Width 0: left out."""
    if len(cells) == len(widths):
        cells = [fit(ends(cell, width), width) for cell, width in zip(cells, widths, strict=True) if width]
    return "  ".join(cells).rstrip()


def narrower(cells: Sequence[Sequence[int]], room: int) -> list[int]:
    """The widths of columns for a line of `room` cells, from the widths of their cells. Left out (0) is no narrow column.

    The widest are made narrower, none below 12. Where that is not enough, columns are left out: of the wide ones those with the
    most text, then the last ones, but never the first.
    """
    widths = [min(max(column), max(room, 1)) for column in cells]
    leave_out = sorted(range(1, len(widths)), key=lambda at: (sum(cells[at]) if widths[at] >= _LEAST else 0, at))
    while leave_out and _length([min(width, _LEAST) for width in widths]) > room:
        widths[leave_out.pop()] = 0
    over = _length(widths) - room
    while over > 0 and (widest := max(widths)) > _LEAST:
        widths[widths.index(widest)] -= 1
        over -= 1
    return widths


def _length(widths: Sequence[int]) -> int:
    """How long a line of these columns is."""
    seen = [width for width in widths if width]
    return sum(seen) + 2 * (len(seen) - 1)


def ends(text: str, room: int) -> str:
    """A cell in `room` cells. Of a path the right end is left, which tells it from others; of anything else the left one."""
    if width_of(text) <= room:
        return text
    if "/" not in text:
        return fit(text, max(0, room - 3)).rstrip() + "..."
    text = text[-max(0, room - 3) or len(text) :]  # a character takes at least one cell, or none
    while text and width_of(text) > room - 3:
        text = text[1:]
    return f"...{text}"


def keys_line(text: str, width: int) -> str:
    """What the keys do, two spaces between each: where it does not fit, the last but one is left out, again and again."""
    parts = text.split("  ")
    while len(parts) > 1 and width_of("  ".join(parts)) > width:
        del parts[-2]
    return "  ".join(parts)


def flowing(text: str) -> list[str]:
    """One line a paragraph: the breaks in the source of a help text are not those of this screen."""
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]

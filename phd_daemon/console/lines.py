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


def columns(rows: Sequence[Sequence[str]], titles: Sequence[str]) -> list[int]:
    """How wide each column must be. A row with fewer cells than others says something else and widens no column."""
    count = max(len(titles), *map(len, rows), 0)
    full = [row for row in rows if len(row) == count]
    return [max(map(width_of, column)) for column in zip([*titles, *[""] * (count - len(titles))], *full, strict=True)]


def row_text(cells: Sequence[str], widths: Sequence[int]) -> str:
    """The cells of a row in their columns, two spaces between; a row with fewer cells is not aligned."""
    if len(cells) == len(widths):
        cells = [fit(ends(cell, width), width) for cell, width in zip(cells, widths, strict=True)]
    return "  ".join(cells).rstrip()


def narrower(widths: Sequence[int], room: int) -> list[int]:
    """The widths of columns for a line of `room` cells: the widest are made narrower, none below 12."""
    fitted = list(widths)
    over = sum(fitted) + 2 * (len(fitted) - 1) - room
    while over > 0 and fitted and (widest := max(fitted)) > _LEAST:
        fitted[fitted.index(widest)] -= 1
        over -= 1
    return fitted


def ends(text: str, room: int) -> str:
    """A cell in `room` cells. Of a path the right end is left, which tells it from others; of anything else the left one."""
    if width_of(text) <= room:
        return text
    if "/" not in text:
        return fit(text, max(0, room - 3)).rstrip() + "..."
    while text and width_of(text) > room - 3:
        text = text[1:]
    return f"...{text}"


def flowing(text: str) -> list[str]:
    """One line a paragraph: the breaks in the source of a help text are not those of this screen."""
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]

"""Prints, for the command line and the console: nothing else does, so no name can forge a line or control the terminal.

Texts hold names as `naming.printable` writes them; control characters that are left are escaped here. A reader that ends early
(`phd queue | head`) is no error and never stops a restore. If the output cannot be written, a full disk for example, the
rest of it is dropped, the command goes on, and `finish` returns the error.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from phd_daemon.show.table import layout
from restore_core.errors import size_text
from restore_core.naming import printable

_lost: list[OSError] = []
"""The errors of standard output; at most one, since the rest goes nowhere."""
_quiet = False


def open_what_is_missing() -> None:
    """Opens /dev/null as standard input, output or error where the program was started without one.

    Otherwise the next file that is opened, perhaps a disk, gets that number, and whatever a library prints.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            os.set_inheritable(number, True)  # an editor we start needs them too
        if getattr(sys, name) is None:
            stream = os.fdopen(number, "w" if number else "r", encoding="utf-8", errors="backslashreplace", closefd=False)
            setattr(sys, name, stream)


def on_a_terminal(stream: TextIO | None = None) -> bool:
    """Returns whether the stream is a terminal that can show colours and draw a line over another."""
    return (stream or sys.stdout).isatty() and os.environ.get("TERM") != "dumb"


def be_quiet(*, quiet: bool) -> None:
    """From now on only messages and data for programs are printed; with False all is again."""
    global _quiet  # noqa: PLW0603  one process prints for one person
    _quiet = quiet


def is_quiet() -> bool:
    """Returns whether only messages and data for programs are printed."""
    return _quiet


def say(text: str = "", *, end: str = "\n") -> None:
    """Prints one or more lines on standard output, for people."""
    if not _quiet:
        _write(sys.stdout, text, end)


def redraw(text: str) -> None:
    """Draws one line over the last one; on a terminal only. It is cut to the width, so that the next one covers it."""
    room = shutil.get_terminal_size().columns - 1
    if not _quiet:
        _put(sys.stdout, f"\r{harmless(text)[:room]:<{room}}")


def clear() -> None:
    """Clears the screen of a terminal; prints an empty line elsewhere."""
    _put(sys.stdout, "\x1b[H\x1b[2J" if on_a_terminal() else "\n")


def complain(text: str) -> None:
    """Prints a message on standard error."""
    _write(sys.stderr, f"phd: {text}", "\n")


def as_json(data: Any) -> None:
    """Prints one JSON document, for programs."""
    _write(sys.stdout, json.dumps(data, indent=1), "\n")


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a table: with bold titles and no wider than the terminal; elsewhere as plain columns of any width."""
    if _quiet:
        return
    head, *body = layout(titles, [[harmless(cell) for cell in row] for row in rows], width())
    _put(sys.stdout, "\n".join([f"\x1b[1m{head}\x1b[0m" if on_a_terminal() else head, *body, ""]))


def width() -> int:
    """Returns how many places a line of standard output has; what is no terminal has lines of any length."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize


def harmless(text: str) -> str:
    """Returns the text with control characters escaped, except tabs; `%` stays, since it escapes the names already."""
    return text if text.isprintable() else "".join(c if c in "%\t" else printable(c) for c in text)


size = size_text


def counted(number: int, noun: str) -> str:
    """Returns `1 rule` or `2 rules`; for nouns that only need an s."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def finish() -> OSError | None:
    """Flushes the output and returns why some of it is lost; None if nothing is, or if its reader has ended."""
    for stream in (sys.stdout, sys.stderr):
        _put(stream, "")
    return _lost[0] if _lost else None


def _write(stream: TextIO, text: str, end: str) -> None:
    _put(stream, "\n".join(map(harmless, text.split("\n"))) + end)


def _put(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        if stream is sys.stdout and error.errno not in (errno.EPIPE, errno.EIO):  # EIO: a terminal that was closed
            _lost.append(error)
        drop_output(stream.fileno())


def drop_output(number: int) -> None:
    """Sends to /dev/null what is written to this file descriptor from now on, also what is still in buffers."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)

"""What the command line prints. Everything goes through here, so that nothing can forge a line or steer a terminal.

Names are already written with `naming.printable` where they stand in a text; what slipped through is escaped here. A
reader that went away (`phd queue | head`) is no error, and never stops a restore. Nor does a full disk behind the output: the rest
of it goes nowhere, the command goes on, and `finish` tells what was lost.
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
from restore_core.naming import printable

_lost: list[OSError] = []
"""Why standard output took no more; at most one."""


def open_what_is_missing() -> None:
    """Give a program that was started without standard input, output or error ones that hold nothing and lead nowhere.

    Otherwise the next file that is opened, a disk perhaps, would get their number, and what a library prints.
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
    """Colours, tables and lines that are drawn over make sense there."""
    return (stream or sys.stdout).isatty() and os.environ.get("TERM") != "dumb"


def say(text: str = "", *, end: str = "\n") -> None:
    """One or more lines on standard output."""
    _write(sys.stdout, text, end)


def redraw(text: str) -> None:
    """One line drawn over the last one; on a terminal only. Cut to its width, or the next one would not cover it."""
    width = shutil.get_terminal_size().columns - 1
    _put(sys.stdout, f"\r{harmless(text)[:width]:<{width}}")


def clear() -> None:
    """An empty screen on a terminal, an empty line elsewhere."""
    _put(sys.stdout, "\x1b[H\x1b[2J" if on_a_terminal() else "\n")


def complain(text: str) -> None:
    """A message on standard error."""
    _write(sys.stderr, f"phd: {text}", "\n")


def as_json(data: Any) -> None:
    """Data for programs: one JSON document."""
    _write(sys.stdout, json.dumps(data, indent=1), "\n")


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table: as wide as the terminal and no wider, with bold titles; plain columns, as wide as they are, for everything else."""
    safe = [[harmless(cell) for cell in row] for row in rows]
    if not on_a_terminal():
        _put(sys.stdout, "\n".join([*layout(titles, safe, sys.maxsize), ""]))
        return
    head, *body = layout(titles, safe, shutil.get_terminal_size().columns)
    _put(sys.stdout, "\n".join([f"\x1b[1m{head}\x1b[0m", *body, ""]))


def harmless(text: str) -> str:
    """Text without control characters but tabs; `%` stays, since names in it are already escaped with it."""
    return text if text.isprintable() else "".join(c if c in "%\t" else printable(c) for c in text)


def size(count: float) -> str:
    """Bytes for people: `1.7 GB` is 1024-based, as the README of 2007 counts."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if count < 1024 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError


def counted(number: int, noun: str) -> str:
    """Returns `1 rule` or `2 rules`; for nouns that only need an s."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def finish() -> OSError | None:
    """Flush, and tell why standard output did not take everything; a reader that is gone by now is no error either."""
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
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)

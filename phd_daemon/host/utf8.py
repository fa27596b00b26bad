"""Names on disk are UTF-8 in every locale, so that a backup or a folder has the same name for everybody.

Python chooses the encoding of names by the locale before its first line runs, and only `-X utf8` on the command line changes that.
So our children are started with it, and `phd` itself, in another locale, replaces itself once by exec: it keeps its files and its
pid, so systemd does not notice. What is printed stays in the encoding of the locale, since a terminal shows nothing else.
"""

from __future__ import annotations

import contextlib
import locale
import os
import sys

_OPTIONS = sys._xoptions  # noqa: SLF001  documented; it only looks private
PYTHON = (sys.executable, "-X", "utf8")
"""The beginning of every command line with which we start a process of our own."""


def insist_on_utf8() -> None:
    """Replaces this process by one in UTF-8 mode, unless names are UTF-8 already. A program calls it first."""
    right = sys.getfilesystemencoding().lower() in ("utf-8", "utf8")
    # "utf8" among the options: it was forbidden by name (-X utf8=0), or it has been tried.
    if not right and "utf8" not in _OPTIONS and sys.executable:
        os.execv(sys.executable, [*PYTHON, *sys.orig_argv[1:]])  # noqa: S606  our own command line, as it was given


def print_as_the_locale_says() -> None:
    """Sets standard input and output to the encoding of the locale; what it cannot show is escaped."""
    encoding = locale.getencoding() if "utf8" in _OPTIONS and "PYTHONIOENCODING" not in os.environ else None
    for stream, errors in ((sys.stdin, None), (sys.stdout, "backslashreplace"), (sys.stderr, "backslashreplace")):
        # A text stream, unless somebody replaced it.
        with contextlib.suppress(AttributeError, ValueError, LookupError):
            stream.reconfigure(encoding=encoding, errors=errors)  # type: ignore[union-attr]

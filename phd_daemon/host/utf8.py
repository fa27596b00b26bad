"""Names on disk are UTF-8, whatever the locale says: the same backup and the same folder have the same name for everybody.

Python settles how it writes names before its first line runs, by the locale, and nothing can change it later: only `-X utf8` on
the command line (PYTHONUTF8 is overruled by it). So our children are started with it, and `phd` itself, where the locale says
something else, begins anew once: the same process, with the same files and the same number, so systemd does not notice.
What is printed stays in the encoding of the locale: a terminal shows nothing else.
"""

from __future__ import annotations

import contextlib
import locale
import os
import sys

_OPTIONS = sys._xoptions  # noqa: SLF001  documented; it only looks private
PYTHON = (sys.executable, "-X", "utf8")
"""How a process of ours is started."""


def insist_on_utf8() -> None:
    """Begin this process anew in UTF-8 mode, unless names are UTF-8 already. The first thing a program does."""
    right = sys.getfilesystemencoding().lower() in ("utf-8", "utf8")
    # "utf8" among the options: it was forbidden by name (-X utf8=0), or it has been tried.
    if not right and "utf8" not in _OPTIONS and sys.executable:
        os.execv(sys.executable, [*PYTHON, *sys.orig_argv[1:]])  # noqa: S606  our own command line, as it was given


def print_as_the_locale_says() -> None:
    """Standard input and output as without UTF-8 mode; what cannot be shown is escaped."""
    encoding = locale.getencoding() if "utf8" in _OPTIONS and "PYTHONIOENCODING" not in os.environ else None
    for stream, errors in ((sys.stdin, None), (sys.stdout, "backslashreplace"), (sys.stderr, "backslashreplace")):
        # A text stream, unless somebody replaced it.
        with contextlib.suppress(AttributeError, ValueError, LookupError):
            stream.reconfigure(encoding=encoding, errors=errors)  # type: ignore[union-attr]

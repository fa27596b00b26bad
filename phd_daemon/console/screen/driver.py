"""Textual's driver for a terminal, writing to a file that never fails: a closed window must not keep a restore from ending.

Textual writes from a thread of its own through a short queue. A write that fails (EIO: the window is gone) ends that thread,
and after 30 more writes everything else waits for ever. Here,
what cannot be written is thrown away.
"""

from __future__ import annotations

import os
import sys
from typing import IO, Any

from textual.drivers.linux_driver import LinuxDriver


class TerminalDriver(LinuxDriver):
    """The driver, with a file whose writes never fail."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._file: Any = Unbroken(sys.__stderr__ or sys.stderr)  # where Textual draws


class Unbroken:
    """A file of a terminal. After a write has failed, everything goes to /dev/null, also what is still in buffers."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, text: str) -> None:
        """Writes, or throws the text away."""
        try:
            self._file.write(text)
        except OSError:
            self._give_up()

    def flush(self) -> None:
        """Flushes, or throws the buffer away."""
        try:
            self._file.flush()
        except OSError:
            self._give_up()

    def fileno(self) -> int:
        """The file descriptor of the terminal."""
        return self._file.fileno()

    def _give_up(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._file.fileno())
        os.close(nowhere)

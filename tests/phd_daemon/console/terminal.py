"""A real terminal with a program in it: a pseudo-terminal of 80 x 24, read and typed into as a person would."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

_PATIENCE = 120.0
_PROMPT = re.compile(r"(\? help|\(\^C goes back\)|0 back|to leave|\[N\]o): $")
"""How the prompts of numbered lines end. Nothing is printed after one until it is answered."""
_OWN_TERMINAL = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
"""Makes standard input the controlling terminal of the new session, so that ^C becomes a signal, and becomes the program."""


class Terminal:
    """`said` is everything that was printed so far. A test that waits for what never comes fails after two minutes."""

    def __init__(self, command: Sequence[str | Path], *, term: str = "dumb", lines: int = 24, columns: int = 80) -> None:
        self._fd, inside = pty.openpty()
        fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")} | {"TERM": term}
        self.process = subprocess.Popen(
            [sys.executable, "-c", _OWN_TERMINAL, *map(str, command)],
            stdin=inside,
            stdout=inside,
            stderr=inside,
            env=environment,
            start_new_session=True,
        )
        os.close(inside)
        self.said = ""
        self._seen = 0

    def expect(self, text: str) -> str:
        """Wait until this is printed, after what was expected before; what was printed up to there."""
        end = time.monotonic() + _PATIENCE
        while (found := self.said.find(text, self._seen)) < 0:
            assert self._read(end), f"{text!r} did not come; the terminal shows:\n{self.said}"
        before, self._seen = self.said[self._seen : found], found + len(text)
        return before

    def prompted(self) -> None:
        """Wait until a prompt of numbered lines stands there: what is typed before it is thrown away."""
        end = time.monotonic() + _PATIENCE
        while (found := _PROMPT.search(self.said, self._seen)) is None:
            assert self._read(end), f"no prompt came; the terminal shows:\n{self.said}"
        self._seen = found.end()

    def keys(self, text: str) -> None:
        """Type this; Enter is a newline."""
        os.write(self._fd, text.encode())

    def answer(self, prompt: str, text: str = "") -> str:
        """Wait for a prompt, then type an answer and Enter; what was printed before the prompt."""
        before = self.expect(prompt)
        self.prompted()
        self.keys(f"{text}\n")
        return before

    def hang_up(self) -> None:
        """Close the terminal's window."""
        os.close(self._fd)
        self._fd = -1

    def ends(self) -> int:
        """Wait for the end of the program; its exit code."""
        end = time.monotonic() + _PATIENCE
        while self._fd >= 0 and self._read(end):
            pass
        return self.process.wait(_PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(_PATIENCE)
        if self._fd >= 0:
            os.close(self._fd)

    def _read(self, end: float) -> bool:
        """Some more of what is printed; False at its end, or when it takes too long."""
        if not select.select([self._fd], [], [], max(0.0, end - time.monotonic()))[0]:
            return False
        data = b""
        with contextlib.suppress(OSError):  # EIO: nobody has the other end open any more
            data = os.read(self._fd, 65536)
        self.said += data.decode("utf-8", "replace").replace("\r\n", "\n")
        return bool(data)

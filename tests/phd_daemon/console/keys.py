"""Standard input with lines in it, for the plain face."""

from __future__ import annotations

import sys

import pytest


class Keys:
    """Typed lines as standard input; one that is `^C` is an interrupt, after the last one it has ended."""

    def __init__(self, lines: tuple[str, ...]) -> None:
        self._lines = list(lines)

    def readline(self) -> str:
        """The next line."""
        line = self._lines.pop(0) if self._lines else None
        if line == "^C":
            raise KeyboardInterrupt
        return "" if line is None else f"{line}\n"


def typed(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    """These lines will be read."""
    monkeypatch.setattr(sys, "stdin", Keys(lines))

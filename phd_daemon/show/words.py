"""Numbers with their nouns: 1 rule, 2 rules."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """The number and the noun, in the plural unless there is just one. For nouns that only need an s."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

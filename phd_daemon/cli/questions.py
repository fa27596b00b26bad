"""Questions of the command line, y or N, before what no other command can undo; and what holds where nobody can answer."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

import click

from restore_core.errors import Stopped, UsageError

_Command = TypeVar("_Command", bound=Callable[..., object])


def yes_option(why: str = "for scripts that have a terminal.") -> Callable[[_Command], _Command]:
    """Makes the option `--yes`, which the command gets as `yes`."""
    return click.option("--yes", is_flag=True, help=f"Do it without a question; {why}")


def agreed(question: str, before: str) -> bool:
    """Asks, and returns whether the answer is yes; ^D on a terminal is a no.

    Raises `UsageError` where standard input has ended: nobody can answer, and `before` is what to do then.
    """
    try:
        return click.confirm(question, default=False, err=True)
    except click.Abort as error:
        if not isinstance(error.__context__, EOFError):  # ^C, of which click makes the same
            raise
        if sys.stdin.isatty():
            click.echo(err=True)
            return False
        raise UsageError(
            "standard input has ended, so nobody can answer: nothing was recorded",
            remedy=f"Run it on a terminal; or {before}, and give --yes.",
        ) from None


def must_ask(*, yes: bool) -> bool:
    """Whether a person is at a terminal, and has not answered with `--yes`. Elsewhere scripts and timers have always gone on."""
    return not yes and sys.stdin.isatty()


def ask_on_a_terminal(question: str, *, yes: bool, otherwise: str) -> None:
    """Asks where `must_ask`. Raises `Stopped` with the text `otherwise` for a no."""
    if must_ask(yes=yes) and not agreed(question, "look at what would be lost"):
        raise Stopped(otherwise)

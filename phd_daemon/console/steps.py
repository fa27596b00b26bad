"""A flow as a list of steps that a person takes forward and back. This module asks nothing itself.

A flow is an object: its methods are the steps, its attributes hold what was answered. A step asks one question, keeps the answer
in the object and says how it went. A step that is asked again finds its old answer there and may propose it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence


class Went(enum.Enum):
    """How a step went."""

    ON = "the question was answered"
    PAST = "nothing had to be asked"
    BACK = "the person went back"


Step = Callable[[], Went]


def take(steps: Sequence[Step]) -> bool:
    """Takes the steps in their order; after BACK, the last one that asked something is asked again.

    Returns True after the last step, False when the person went back from the first question.
    """
    asked: list[int] = []
    at = 0
    while at < len(steps):
        went = steps[at]()
        if went is Went.BACK:
            if not asked:
                return False
            at = asked.pop()
            continue
        if went is Went.ON:
            asked.append(at)
        at += 1
    return True


def on_if(answer: object) -> Went:
    """ON for an answer that leads on; BACK for "no" and for no answer."""
    return Went.ON if answer else Went.BACK

"""The driver of the flows: forward, back over what was not asked, and the old answer found again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phd_daemon.console.steps import Step, Went, on_if, take

ON, PAST, BACK = Went.ON, Went.PAST, Went.BACK


def taken(*steps: list[Went]) -> tuple[bool, list[int]]:
    """What `take` returns, and the steps in the order in which they were taken. Each step goes as its list says."""
    order: list[int] = []

    def step(number: int, goes: Iterator[Went]) -> Step:
        def one() -> Went:
            order.append(number)
            return next(goes)

        return one

    return take([step(number, iter(goes)) for number, goes in enumerate(steps)]), order


@pytest.mark.parametrize(
    ("steps", "ended", "order"),
    [
        ([], True, []),
        ([[ON], [ON], [ON]], True, [0, 1, 2]),
        ([[BACK]], False, [0]),
        ([[ON, BACK], [BACK]], False, [0, 1, 0]),
        ([[ON, ON], [BACK, ON]], True, [0, 1, 0, 1]),
        ([[ON, ON], [PAST, PAST], [BACK, ON]], True, [0, 1, 2, 0, 1, 2]),
        ([[PAST], [BACK]], False, [0, 1]),
        ([[ON, BACK], [ON, BACK], [BACK]], False, [0, 1, 2, 1, 0]),
        ([[ON, ON], [ON, PAST, PAST], [BACK, BACK, ON]], True, [0, 1, 2, 1, 2, 0, 1, 2]),
    ],
)
def test_the_way(steps: list[list[Went]], ended: bool, order: list[int]) -> None:
    assert taken(*steps) == (ended, order)


def test_a_step_finds_its_old_answer() -> None:
    class Flow:
        name = ""
        proposed: list[str]

        def __init__(self) -> None:
            self.proposed = []

        def ask(self) -> Went:
            self.proposed.append(self.name)
            self.name = "CRM.vmdk"
            return ON

        def start(self) -> Went:
            return on_if(len(self.proposed) > 1)

    flow = Flow()
    assert take([flow.ask, flow.start])
    assert flow.proposed == ["", "CRM.vmdk"]


@given(st.lists(st.sampled_from([ON, PAST]), max_size=8))
def test_back_asks_every_question_once_more_in_the_reverse_order(ways: list[Went]) -> None:
    ended, order = taken(*([way, BACK] for way in ways), [BACK])
    questions = [number for number, way in enumerate(ways) if way is ON]
    assert not ended
    assert order == [*range(len(ways) + 1), *reversed(questions)]


def test_an_error_of_a_step_ends_the_flow() -> None:
    def broken() -> Went:
        raise LookupError("planted")

    with pytest.raises(LookupError):
        take([broken])


@pytest.mark.parametrize(("answer", "went"), [(True, ON), ("text", ON), (False, BACK), (None, BACK), ("", BACK)])
def test_no_and_no_answer_lead_back(answer: object, went: Went) -> None:
    assert on_if(answer) is went

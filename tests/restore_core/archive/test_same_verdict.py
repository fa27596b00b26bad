"""phd and `sh` accept and refuse the same archives. Every verdict of every case by two shells takes minutes: tests/proof."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.restore_core.archive.stub_shell import SHELLS
from tests.restore_core.archive.verdict_cases import CASES, check_phd, check_sh_restore, check_sh_verify, files


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 120


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.long])
def test_phd_and_sh_accept_what_the_page_says(name: str, tmp_path: Path) -> None:
    """What `sh` refuses for its header it refuses before it looks at the command, and what its restore accepts it has verified."""
    case = CASES[name]
    made = files(case, tmp_path)
    check_phd(case, made)
    if (case.accepts("sh verify") and case.accepts("sh restore")) or ": the header: " not in check_sh_verify(
        case, made, SHELLS["dash"]
    ):
        check_sh_restore(case, made, SHELLS["dash"])

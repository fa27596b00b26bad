"""phd and `sh` accept and refuse the same archives: each verdict of each case, by the shell of Debian and the one of busybox."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.restore_core.archive.stub_shell import SHELLS
from tests.restore_core.archive.verdict_cases import CASES, check_phd, check_sh_restore, check_sh_verify, files


@pytest.mark.parametrize("name", CASES)
def test_phd_accepts_what_the_page_says(name: str, tmp_path: Path) -> None:
    check_phd(CASES[name], files(CASES[name], tmp_path))


@pytest.mark.parametrize("shell", ["dash", "busybox sh"])
@pytest.mark.parametrize("name", CASES)
def test_sh_accepts_what_the_page_says(name: str, shell: str, tmp_path: Path) -> None:
    if shutil.which(SHELLS[shell][0]) is None:
        pytest.skip(f"{shell} is not installed")
    made = files(CASES[name], tmp_path)
    check_sh_verify(CASES[name], made, SHELLS[shell])
    check_sh_restore(CASES[name], made, SHELLS[shell])

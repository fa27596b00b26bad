"""proftpd, pure-ftpd and vsftpd with the settings of administrators: some here, all in `make proof`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.servers import Missing
from tests.servers.real_cases import CASES
from tests.there_and_back import Site

SLICE = (
    "proftpd TLS, one connection a user, chroot",
    "proftpd dotfiles hidden, no UTF8",
    "pure-ftpd one connection a user, no dotfiles",
    "pure-ftpd quota",
    "vsftpd one connection a host",
)


def check(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Tries one case; skips, loudly, where the server is not here."""
    case = CASES[name]
    # Not pytest's folder: nobody may enter it.
    with tempfile.TemporaryDirectory(prefix="phd-") as own:
        try:
            with case.start(Path(own)) as served:
                site = Site(folder, case.spec(served), monkeypatch, capsys)
                if case.refused:
                    site.is_refused(case.refused, case.code)
                else:
                    site.works(served.store)
        except Missing as missing:
            pytest.skip(str(missing))


@pytest.mark.parametrize("name", SLICE)
def test_with_each_setting_everything_works_or_one_message_says_why_not(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check(name, tmp_path, monkeypatch, capsys)

"""proftpd, pure-ftpd and vsftpd with the settings of administrators: some here, all in `make proof`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from restore_core.errors import ExitCode
from tests import mounting
from tests.servers import Missing, vsftpd
from tests.servers.real_cases import CASES
from tests.there_and_back import Site

SLICE = (
    "proftpd TLS, one connection a user, chroot",
    "proftpd dotfiles hidden, no UTF8",
    "pure-ftpd one connection a user, no dotfiles",
    "proftpd tells no SIZE",
    "proftpd no renaming, no deleting",
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


def test_a_full_disk_of_vsftpd_is_no_room_on_the_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says "Failure writing to local file", which was "may be temporary", exit code 69."""
    store = tmp_path / "small"
    mounting.mount(store, "-t", "tmpfs", "-o", "size=200k", "tmpfs")
    try:
        with vsftpd(tmp_path, store) as served:
            Site(tmp_path, served.spec, monkeypatch, capsys).is_refused("there is no room on the target", ExitCode.DESTINATION)
            assert list(store.iterdir()) == []
    except Missing as missing:
        pytest.skip(str(missing))
    finally:
        mounting.unmount_all_below(tmp_path)

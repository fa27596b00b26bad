"""proftpd, pure-ftpd and vsftpd with the settings of administrators: some here, all in `make proof`."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from restore_core.errors import ExitCode
from restore_core.targets.gaps import Gap, GapKind
from restore_core.targets.kinds import make_target
from tests import mounting
from tests.lab import UUID
from tests.restore_core.targets.conftest import QUICK
from tests.servers import Missing, vsftpd
from tests.servers.real_cases import CASES
from tests.servers.unpacked_ftp import proftpd
from tests.there_and_back import Site

SLICE = (
    "proftpd TLS, one connection a user, chroot",
    "proftpd dotfiles hidden, no UTF8",
    "pure-ftpd one connection a user, no dotfiles",
    "proftpd tells no SIZE",
    "proftpd no MLSD by a limit",
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


def test_a_folder_that_may_not_be_read_is_a_gap_on_proftpd_with_mlsd_or_without() -> None:
    """proftpd answers a LIST of it with nothing and 226, as of an empty folder: its backups looked deleted."""
    limit = ("<Limit MLSD>", "DenyAll", "</Limit>")
    for extra in ((), limit, ("FactsAdvertise off",)):
        with tempfile.TemporaryDirectory(prefix="phd-") as own:
            try:
                with proftpd(Path(own), *extra) as served:
                    shut, empty = served.store / f"2026.03.01-A.{UUID}", served.store / f"2026.03.02-A.{UUID}"
                    shut.mkdir()
                    empty.mkdir()
                    (shut / "00-C.vmdk.gz-260301-0300.phd").write_bytes(b"1")
                    shut.chmod(0o311)
                    target, gaps = make_target(served.spec, QUICK), list[Gap]()
                    assert list(target.listing(gaps)) == []
                    target.close()
                    assert [(gap.path, gap.kind) for gap in gaps] == [(shut.name, GapKind.UNREADABLE)], extra
                    shut.chmod(0o755)
            except Missing as missing:
                pytest.skip(str(missing))


@pytest.mark.parametrize("server", ["proftpd", "proftpd chroot", "vsftpd", "pure-ftpd", "vsftpd read-only", "proftpd read-only"])
def test_a_server_to_which_nothing_can_be_written_is_said_to_be_read_only_and_no_other(server: str) -> None:
    with tempfile.TemporaryDirectory(prefix="phd-") as own:
        try:
            case = CASES[server] if server in CASES else CASES["vsftpd one connection"]
            with case.start(Path(own)) as served:
                target = make_target(case.spec(served), QUICK)
                can = target.capabilities()
                target.close()
                assert can.writable is (False if "read-only" in server else None)
                assert ("read-only: nothing can be written to it" in can.remarks()) == ("read-only" in server)
                assert list(served.store.iterdir()) == []
        except Missing as missing:
            pytest.skip(str(missing))

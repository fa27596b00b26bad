"""From the first screen to a finished restore on a real pseudo-terminal, with the installed `phd`, compared byte by byte."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from phd_daemon.spool.snapshot import daemon_running
from tests import servers
from tests.host import PHD, Host
from tests.phd_daemon.console.terminal import Terminal
from tests.servers import Served


@pytest.fixture
def host(tmp_path: Path) -> Host:
    host = Host(tmp_path)
    host.make_vm()
    host.config.write_text(
        host.config.read_text().replace("[replication]\n", f'[replication]\ndefault_datastore = "{host.datastore}"\n')
    )
    return host


def console(host: Host) -> Terminal:
    return Terminal([PHD, "--config", host.config])


def to_the_backups(terminal: Terminal) -> None:
    """The path of 2007: (E), (C), (V); then Enter and Enter."""
    terminal.answer("Main Menu", "e")
    terminal.answer("Restore Menu", "c")
    terminal.answer("Restore through the Console", "v")
    terminal.answer("Virtual Machines", "")
    terminal.answer("a date or All Dates", "")


def through_the_questions(terminal: Terminal) -> None:
    """From the list of backups to the last question by pressing Enter."""
    terminal.answer("Backups of CRM")
    terminal.answer("Restore this backup?")
    terminal.answer("The Full for this Delta")
    terminal.answer("Where to restore CRM.vmdk")
    terminal.answer("Datastore")
    terminal.answer("Folder on ")
    terminal.answer("Name of the VMDK")
    terminal.answer("Start this restore?")


def leave(terminal: Terminal) -> None:
    for title in ("Backups of CRM", "a date or All Dates", "Virtual Machines", "Restore through the Console", "Restore Menu"):
        terminal.answer(title, "0")
    terminal.answer("Main Menu", "0")
    assert terminal.ends() == 0


def test_through_the_queue_by_pressing_enter(host: Host) -> None:
    host.backup()
    data = host.change(2)
    host.backup()
    with host.daemon(), console(host) as terminal:
        while daemon_running(host.spool) is None:
            time.sleep(0.05)
        to_the_backups(terminal)
        through_the_questions(terminal)
        terminal.answer("Submit this restore job to the background restore queue?")
        terminal.answer("Restore the VMX file also", "y")
        terminal.expect("CRM: waiting")
        log = host.ends("CRM", "done")
        leave(terminal)
    assert "done: " in log.splitlines()[-1]
    folder = host.datastore / "CRM"
    assert (folder / "CRM-flat.vmdk").read_bytes() == data
    assert (folder / "CRM.vmx").read_bytes() == (host.vm / "CRM.vmx").read_bytes()


def test_in_the_foreground_while_no_daemon_runs(host: Host) -> None:
    host.backup()
    data = host.change(3)
    host.backup()
    with console(host) as terminal:
        to_the_backups(terminal)
        assert "No daemon serves the restore queue" in terminal.said
        through_the_questions(terminal)
        terminal.answer("Submit this restore job to the background restore queue?")
        shown = terminal.answer("Restore the VMX file also?", "y")
        terminal.expect("CRM.vmx: check its paths and settings")
        leave(terminal)
    assert re.search(r"Delta: 100% Full: 100%, 64 mb of 64 mb, at \d+ meg/sec, Elapsed: \d\d:\d\ds Remain: 00:00s\n", shown)
    assert "bytes restored and verified" in shown
    folder = host.datastore / "CRM"
    assert (folder / "CRM-flat.vmdk").read_bytes() == data
    assert (folder / "CRM.vmx").read_bytes() == (host.vm / "CRM.vmx").read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == ["CRM-flat.vmdk", "CRM.vmdk", "CRM.vmx"]


def test_a_disk_in_use_cannot_be_chosen_and_one_that_is_there_is_never_proposed(host: Host) -> None:
    host.backup()
    (host.datastore / "old").mkdir()
    host.phd("restore", host.backup(), "--to", str(host.datastore / "old" / "CRM.vmdk"))
    (host.datastore / "old" / "CRM.vmdk.lck").mkdir()
    with console(host) as terminal:
        to_the_backups(terminal)
        terminal.answer("Backups of CRM")
        terminal.answer("Restore this backup?")
        terminal.answer("The Full for this Delta")
        assert "not in use" not in terminal.answer("[cannot be chosen: in use: CRM.vmdk.lck", "1")
        terminal.answer("This cannot be chosen: in use: CRM.vmdk.lck (a lock folder of", "0")
        (host.datastore / "old" / "CRM.vmdk.lck").rmdir()
        terminal.answer("The Full for this Delta")
        terminal.answer("Where to restore", "1")
        terminal.answer("Write over this disk?", "y")
        terminal.answer("Start this restore?", "y")
        terminal.answer("Submit this restore job", "n")
        terminal.answer("Restore the VMX file also?", "n")
        leave(terminal)


@pytest.fixture
def slow(host: Host) -> Iterator[Served]:
    """The same backups on a server, at a rate at which a restore takes most of a minute."""
    host.backup()
    with servers.pyftpd(host.folder) as served:
        text = host.config.read_text().partition("[targets.")[0]
        login = f'password_file = "{served.spec.password_file}"\nbandwidth = "128KB/s"\n'
        host.config.write_text(f'{text}[targets.far]\nurl = "{served.spec.url}"\n{login}')
        yield served


def test_ctrl_c_in_the_foreground_asks_and_leaves_nothing_half_made(host: Host, slow: Served) -> None:
    del slow
    with console(host) as terminal:
        to_the_backups(terminal)
        through_the_questions(terminal)
        terminal.answer("Submit this restore job to the background restore queue?")
        terminal.expect("Planned: ")
        terminal.keys("\x03")
        terminal.answer("Stop it?", "n")
        terminal.expect("It goes on.")
        terminal.keys("\x03")
        terminal.answer("Stop it?", "y")
        terminal.expect("nothing was left behind")
        leave(terminal)
    assert not (host.datastore / "CRM").exists()


def test_a_closed_window_ends_a_restore_and_leaves_nothing_half_made(host: Host, slow: Served) -> None:
    del slow
    with console(host) as terminal:
        to_the_backups(terminal)
        through_the_questions(terminal)
        terminal.answer("Submit this restore job to the background restore queue?")
        terminal.expect("Planned: ")
        terminal.hang_up()
        assert terminal.ends() == 130
    assert not (host.datastore / "CRM").exists()


def test_a_server_that_hangs_can_be_left_with_ctrl_c(host: Host, slow: Served) -> None:
    with console(host) as terminal:
        to_the_backups(terminal)
        terminal.answer("Backups of CRM")
        terminal.expect("Restore this backup?")
        terminal.prompted()
        slow.pause()
        try:
            terminal.keys("\n")
            terminal.expect("Connecting to far and checking the header of the backup ...")
            terminal.keys("\x03")
            terminal.answer("Restore this backup?", "0")
            leave(terminal)
        finally:
            slow.go_on()


def test_a_closed_window_ends_the_console(host: Host) -> None:
    with console(host) as terminal:
        terminal.expect("Main Menu")
        terminal.prompted()
        terminal.hang_up()
        assert terminal.ends() in (0, 130)

"""Status, options and rules at the Textual screen: a log that grows and is left, an option that is set, an editor in between."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from phd_daemon.console.menus import console
from tests.phd_daemon.console.conftest import Place
from tests.phd_daemon.console.screen_hands import ScreenHands, at_the_screen


def at_the_console(place: Place, do: Callable[[ScreenHands], Awaitable[None]]) -> None:
    at_the_screen(lambda face: console(face, place.session), do)


def test_a_log_is_followed_and_left(place: Place) -> None:
    control, log = place.spool / "crm.running", place.spool / "crm.log"
    control.write_text("")
    log.write_text("begun\n")

    async def do(hands: ScreenHands) -> None:
        await hands.answer("Main Menu", "b")
        await hands.answer("Backup Restore Status", "enter")
        await hands.answer("Job crm", "l")
        await hands.expect("begun")
        with log.open("a") as file:
            file.write("half way\n")
        await hands.expect("half way")
        await hands.press("q")
        await hands.expect("Job crm")
        assert control.exists()
        control.rename(place.spool / "crm.done")
        await hands.answer("Job crm", "escape")
        await hands.answer("Backup Restore Status", "enter")
        await hands.answer("done since", "l")
        await hands.answer("half way", "escape")
        await hands.answer("Job crm", "escape")
        await hands.answer("Backup Restore Status", "escape")
        await hands.answer("Main Menu", "escape")

    at_the_console(place, do)


def test_the_list_and_the_job_show_by_themselves_what_has_changed(place: Place) -> None:
    waits, runs = place.spool / "crm.job", place.spool / "crm.running"
    waits.write_text("")

    async def do(hands: ScreenHands) -> None:
        await hands.answer("Main Menu", "b")
        await hands.expect("Backup Restore Status", "crm", "waiting")
        (place.spool / "adam.job").write_text("")
        await hands.expect("adam")
        await hands.press("enter")
        await hands.expect("Job crm", "(P) Another priority")
        waits.rename(runs)
        await hands.until(lambda: "(P)" not in hands.text(), "a job that runs")
        await hands.press("escape")
        await hands.answer("Backup Restore Status", "escape")
        await hands.answer("Main Menu", "escape")

    at_the_console(place, do)


def test_an_option_is_set_and_the_rules_are_edited(place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rule = f"RESTORE:CRM|*|00|CRM.vmdk|{place.datastore}/r/CRM.vmdk\n"
    (tmp_path / "rule").write_text(rule)
    monkeypatch.setenv("EDITOR", f"cp {tmp_path}/rule")
    monkeypatch.delenv("VISUAL", raising=False)

    async def do(hands: ScreenHands) -> None:
        await hands.answer("Main Menu", "c")
        await hands.answer("Configuration", "c")
        await hands.answer("Replication / Restore Options", "down", "enter")
        await hands.expect("New value")
        await hands.press("ctrl+u", "9", "enter")
        await hands.expect("must be at most 4")
        await hands.press("ctrl+u", "2", "enter")
        await hands.answer("Replication / Restore Options", "escape")
        await hands.answer("Configuration", "escape")
        await hands.answer("Main Menu", "e")
        await hands.answer("Restore Menu", "r")
        await hands.answer("Replication Action", "e")
        await hands.answer("1 rule", "escape")
        await hands.answer("Replication Action", "p")
        await hands.answer("would be queued", "enter")
        await hands.answer("Why ", "escape")
        await hands.answer("would be queued", "escape")
        await hands.answer("Replication Action", "escape")
        await hands.answer("Restore Menu", "escape")
        await hands.answer("Main Menu", "escape")

    at_the_console(place, do)
    assert (place.folder / "vmdks.auto").read_text() == rule
    assert place.session.config.queue.workers == 2

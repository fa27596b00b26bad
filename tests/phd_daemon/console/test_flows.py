"""Status, options and rules in the console, driven by a script: what they offer, what they do, and what they leave alone."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from phd_daemon.console import options_flow, rules_flow, status_flow
from phd_daemon.console.face import Choice
from phd_daemon.console.menus import call
from phd_daemon.console.session import Session
from phd_daemon.replication import one_pass
from phd_daemon.spool.control_file import parse_control_file
from phd_daemon.spool.status_file import JobStatus, LiveProgress, Outcome, Result, write_status
from tests.phd_daemon.console.scripted import BACK, Answer, Scripted

UUID = "564d122a-0ed7-3b92-2f46-aee9456b2074"
ARCHIVE = f"2026.01.02-CRM.{UUID}/00-CRM.vmdk.delta-2026.01.02-0300-260101-0300.phd"
PROGRESS = LiveProgress(
    phase="restore", percent=67.0, done=2, total=3, rate=11 << 20, elapsed=110.0, remaining=254.0, line="Delta: 67%"
)


T = TypeVar("T")


class Following(Scripted):
    """Answers without the titles they belong to; one may be a function, called when it is its turn."""

    def __init__(self, *answers: Any) -> None:
        super().__init__(*(("", answer) for answer in answers))
        self.keys: list[str] = []
        self.proposed: list[str] = []

    def choose(self, choice: Choice[T]) -> T | None:
        self.keys.append("".join(row.key for row in choice.rows))
        self.proposed.append(choice.rows[choice.start].cells[0] if choice.start is not None else "")
        return super().choose(choice)

    def said(self) -> str:
        """All of it, once the script was followed to its end."""
        assert not self.answers, f"nobody asked for {self.answers}"
        assert all(line.isprintable() for line in self.seen), self.seen
        return self.text()

    def _next(self, title: str) -> Answer:
        answer: Answer | Callable[[], Answer] = super()._next(title)
        return answer() if callable(answer) else answer


class Site:
    def __init__(self, root: Path) -> None:
        self.root, self.spool, self.rules = root, root / "restore", root / "vmdks.auto"
        self.toml = root / "phd.toml"
        self.spool.mkdir(mode=0o700)
        (root / "volumes/A").mkdir(parents=True)
        archive = root / "nas1" / ARCHIVE
        archive.parent.mkdir(parents=True)
        archive.write_bytes(b"x")
        os.utime(archive, (1, 1))
        self.toml.write_text(
            f'state_dir = "{root}/state"\n[queue]\nspool = "{self.spool}"\nworkers = 1 # mine\n'
            f'[replication]\nrules = "{self.rules}"\nledger = "{root}/restored.log"\ndefault_datastore = "{root}/volumes/A"\n'
            f'[datastores]\nroots = ["{root}/volumes"]\n[targets.nas1]\nurl = "file://{root}/nas1"\n'
        )
        self.session = Session(self.toml)

    def talk(self, flow: Any, *answers: Any) -> str:
        face = Following(*answers)
        call("test", flow, face, self.session)
        return face.said()

    def names(self) -> list[str]:
        return sorted(entry.name for entry in self.spool.iterdir())

    def job(self, name: str, log: str = "", **facts: Any) -> None:
        stem = name.rpartition(".")[0]
        text = f'delta = "nas1:{ARCHIVE}"\nrestore_to = "{self.root}/volumes/A/{stem}.vmdk"\n'
        (self.spool / name).write_text(text)
        if log:
            (self.spool / f"{stem}.log").write_text(log)
        if facts:
            known = {"state": "", "submitter": "alice", "delta": f"nas1:{ARCHIVE}", "restore_to": "/v/A/x.vmdk", "priority": 5}
            status = JobStatus(job=stem, accepted_at=time.time() - 420, **{**known, **facts})
            write_status(self.spool / f"{stem}.status", status, durable_now=False)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.delenv("VISUAL", raising=False)
    site = Site(tmp_path)
    yield site
    site.session.close()


def outcome(reason: str) -> Outcome:
    return Outcome(attempt=1, result=Result.FAILED, exit_code=65, reason=reason, finished_at=time.time())


class TestStatus:
    def test_all_jobs_with_state_submitter_progress_and_age(self, site: Site) -> None:
        site.job("crm.running", progress=PROGRESS, started_at=time.time() - 110)
        site.job("mail.job", note="by phone")
        site.job("old.failed", finished_at=time.time() - 3 * 86400, outcome=outcome("block 7\nis damaged"))
        said = [line.strip() for line in site.talk(status_flow.status, BACK).splitlines()]
        rows = [line for line in said if line.split()[0] in ("crm", "mail", "old")]
        assert rows == [
            "crm running alice 1 min /v/A/x.vmdk 67%, 11.0 MB/s, 04:14 left",
            "mail waiting alice 7 min /v/A/x.vmdk waits for its turn",
            "old failed alice 3 d /v/A/x.vmdk block 7. is damaged",
        ]
        assert any("No daemon serves" in line for line in said)

    def test_an_empty_queue_says_so_and_can_be_looked_at_again(self, site: Site) -> None:
        def meanwhile() -> str:
            site.job("crm.job")
            return "l"

        said = site.talk(status_flow.status, meanwhile, BACK)
        assert "The restore queue is empty." in said
        assert "crm waiting" in said

    def test_the_log_of_a_finished_job(self, site: Site) -> None:
        site.job("crm.done", "first\n\x1b[2Jlast\n", finished_at=time.time())
        said = site.talk(status_flow.status, "crm", "l", BACK, BACK)
        assert "Log of crm\nfirst\n%1B[2Jlast" in said

    def test_the_log_of_a_running_job_is_followed_to_its_end(self, site: Site) -> None:
        site.job("crm.running", "begun\n", progress=PROGRESS)

        def end() -> None:
            with (site.spool / "crm.log").open("a") as log:
                log.write("ended\n")
            (site.spool / "crm.running").rename(site.spool / "crm.done")

        later = threading.Timer(0.3, end)
        later.start()
        said = site.talk(status_flow.status, "crm", "l", BACK, BACK)
        later.join()
        assert "Log of crm\nbegun\nended" in said

    def test_hold_release_cancel_retry_priority_remove(self, site: Site) -> None:
        site.job("crm.job")
        site.talk(status_flow.status, "crm", "h", BACK)
        assert site.names() == ["crm.held"]
        site.talk(status_flow.status, "crm", "r", BACK)
        site.talk(status_flow.status, "crm", "p", "2", BACK)
        assert parse_control_file((site.spool / "crm.job").read_bytes()).priority == 2
        site.talk(status_flow.status, "crm", "c", "n", BACK, BACK)
        assert site.names() == ["crm.job"]
        site.talk(status_flow.status, "crm", "c", "y", BACK)
        assert site.names() == ["crm.cancelled"]
        site.talk(status_flow.status, "crm", "t", BACK)
        assert site.names() == ["crm.job"]
        (site.spool / "crm.job").rename(site.spool / "crm.failed")
        site.talk(status_flow.status, "crm", "d", "y", BACK)
        assert site.names() == []

    def test_esc_goes_back_one_step_to_the_job_and_then_to_the_list(self, site: Site) -> None:
        site.job("crm.job", "log\n")
        (site.spool / "crm.job").rename(site.spool / "crm.done")
        face = Scripted(
            *[(status_flow.TITLE, "crm"), ("Job crm", "l"), ("Job crm", "d"), ("Remove crm", BACK), ("Job crm", BACK)],
            (status_flow.TITLE, BACK),
        )
        status_flow.status(face, site.session)
        assert not face.answers

    def test_esc_goes_back_one_step_from_the_priority_to_the_job(self, site: Site) -> None:
        site.job("crm.job")
        face = Scripted(
            *[(status_flow.TITLE, "crm"), ("Job crm", "p"), ("Priority", BACK), ("Job crm", BACK)], (status_flow.TITLE, BACK)
        )
        status_flow.status(face, site.session)
        assert not face.answers

    def test_what_a_state_does_not_allow_is_not_offered(self, site: Site) -> None:
        offered = {}
        for state in ("job", "held", "running", "done", "rejected"):
            site.job(f"crm.{state}")
            face = Following("crm", BACK, BACK)
            status_flow.status(face, site.session)
            offered[state] = face.keys[1]
            (site.spool / f"crm.{state}").unlink()
        assert offered == {"job": "lhpc", "held": "lrc", "running": "lc", "done": "ltd", "rejected": "ltd"}

    def test_a_job_that_waits_for_its_next_try_may_be_tried_now(self, site: Site) -> None:
        site.job("crm.job", next_try=time.time() + 900, why_waiting="nas1 does not answer")
        os.utime(site.spool / "crm.job", (1, 1))
        said = site.talk(status_flow.status, "crm", "t", BACK)
        assert "nas1 does not answer" in said
        assert os.stat(site.spool / "crm.job").st_mtime > time.time() - 60

    def test_what_changed_meanwhile_is_said_and_the_list_stands_there_again(self, site: Site) -> None:
        site.job("crm.job")

        def quicker() -> str:
            (site.spool / "crm.job").rename(site.spool / "crm.running")
            return "h"

        said = site.talk(status_flow.status, "crm", quicker, BACK)
        assert "crm cannot be held: it is running" in said

    def test_the_list_stands_on_the_job_that_was_chosen_last(self, site: Site) -> None:
        for name in ("a.running", "b.job", "c.held"):
            site.job(name)
        face = Following("b", "h", "c", BACK, BACK)
        status_flow.status(face, site.session)
        assert [face.proposed[at] for at in (0, 2, 4)] == ["a", "b", "c"]
        assert site.names() == ["a.running", "b.held", "c.held"]

    def test_clean_asks_and_touches_nothing_that_waits(self, site: Site) -> None:
        for name in ("a.done", "b.failed", "c.job"):
            site.job(name)
        site.talk(status_flow.status, "c", "n", BACK)
        assert len(site.names()) == 3
        assert "2 jobs removed" in site.talk(status_flow.status, "c", "y", BACK)
        assert site.names() == ["c.job"]

    def test_a_name_cannot_steer_the_terminal(self, site: Site) -> None:
        site.job("x\x1b[2J.done", "log\n")
        assert "Log of x%1B[2J" in site.talk(status_flow.status, "x%1B", "l", BACK, BACK)


class TestOptions:
    def test_a_value_is_written_and_taken_up(self, site: Site) -> None:
        site.talk(options_flow.options, "queue.workers", "2", "queue.enabled", "off", "index.max_age", "90m", BACK)
        assert "workers = 2 # mine\n" in site.toml.read_text()
        config = site.session.config
        assert (config.queue.workers, config.queue.enabled, config.index.max_age) == (2, False, 5400)

    def test_above_two_workers_comes_the_warning_of_2007(self, site: Site) -> None:
        said = site.talk(options_flow.options, "queue.workers", "4", "n", BACK)
        assert "Do not run more than 2" in said
        assert site.session.config.queue.workers == 1
        site.talk(options_flow.options, "queue.workers", "4", "y", BACK)
        assert site.session.config.queue.workers == 4

    def test_nothing_is_written_on_the_way_back(self, site: Site) -> None:
        before = site.toml.stat()
        site.talk(options_flow.options, "queue.workers", BACK, "queue.enabled", "on", "replication.every", "", BACK)
        assert site.toml.stat() == before

    def test_an_edit_meanwhile_is_not_overwritten(self, site: Site) -> None:
        def edited() -> str:
            site.toml.write_text(site.toml.read_text() + "# a colleague was here\n")
            return "2"

        said = site.talk(options_flow.options, "queue.workers", edited, BACK)
        assert "has changed since it was read" in said
        assert "workers = 1" in site.toml.read_text()

    def test_what_cannot_be_is_refused_as_it_is_typed(self, site: Site) -> None:
        said = site.talk(options_flow.options, "queue.workers", "5", "many", "2", BACK)
        assert "queue.workers: must be at most 4" in said
        assert "is not a whole number" in said
        assert site.session.config.queue.workers == 2

    def test_a_datastore_that_is_none_is_written_and_warned_of(self, site: Site) -> None:
        said = site.talk(options_flow.options, "replication.default_datastore", "/srv/x/y", BACK)
        assert "is not a datastore" in said
        assert site.session.config.replication.default_datastore == Path("/srv/x/y")


class TestRules:
    def rule(self, site: Site, to: str = "r.vmdk") -> str:
        return f"RESTORE:CRM|{UUID}|00|CRM.vmdk|{site.root}/volumes/A/{to}\n"

    def editor(self, site: Site, monkeypatch: pytest.MonkeyPatch, *texts: str) -> None:
        """Writes these texts, one a call."""
        script = site.root / "editor"
        for number, text in enumerate(texts):
            (site.root / f"text{number}").write_text(text)
        script.write_text(f'#!/bin/sh\nn=$(ls {site.root}/text* | head -1); cat "$n" > "$1"; rm "$n"\n')
        script.chmod(0o755)
        monkeypatch.setenv("EDITOR", str(script))

    def test_edit(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        self.editor(site, monkeypatch, self.rule(site))
        assert "vmdks.auto: 1 rule" in site.talk(rules_flow.edit)
        assert site.rules.read_text() == self.rule(site)

    def test_bad_lines_are_shown_and_edited_again(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        self.editor(site, monkeypatch, "RESTORE:CRM\n", self.rule(site))
        said = site.talk(rules_flow.edit, "e")
        assert "line 1, column" in said
        assert site.rules.read_text() == self.rule(site)

    def test_bad_lines_are_kept_or_thrown_away(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        self.editor(site, monkeypatch, "nonsense\n", "more nonsense\n", "nonsense\0")
        assert "1 bad line" in site.talk(rules_flow.edit, "k")
        assert site.rules.read_text() == "nonsense\n"
        assert "nothing was changed" in site.talk(rules_flow.edit, "t")
        with pytest.raises(StopIteration):  # there is no such row for a file that is no list of rules
            site.talk(rules_flow.edit, "keep it")
        assert site.rules.read_text() == "nonsense\n"

    def test_esc_throws_nothing_away_at_once_and_two_do(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        self.editor(site, monkeypatch, "nonsense\n", "nonsense\n")
        site.talk(rules_flow.edit, BACK, "n", BACK, BACK)
        assert not site.rules.exists()

    def test_preload(self, site: Site) -> None:
        site.talk(rules_flow.preload, BACK)
        assert not site.rules.exists()
        assert "1 VMDK added" in site.talk(rules_flow.preload, "Commented")
        assert site.rules.read_text().startswith("#RESTORE:CRM|")
        assert "0 VMDKs added" in site.talk(rules_flow.preload, "Live")

    def test_preview_shows_each_rule_and_all_of_the_chosen_one(self, site: Site) -> None:
        assert "no rules" in site.talk(rules_flow.preview)
        site.rules.write_text(self.rule(site) + "RESTORE:CRM\n")
        os.utime(site.rules, (1, 1))
        said = site.talk(rules_flow.preview, "CRM/CRM.vmdk", "not valid", BACK)
        assert "1 CRM/CRM.vmdk would be queued" in said
        assert "Matches (UTC)  2026-01-02 03:00 on nas1" in said
        assert "2  not valid  the UUID is missing" in said
        assert "Rule           not valid, column 12" in said
        assert site.names() == []

    def test_a_pass_dry_and_now(self, site: Site) -> None:
        site.rules.write_text(self.rule(site))
        os.utime(site.rules, (1, 1))
        assert "1 would be queued" in site.talk(rules_flow.run_pass, "d", BACK)
        assert site.names() == []
        said = site.talk(rules_flow.run_pass, "n", BACK)
        assert "1 queued" in said
        assert len(site.names()) == 1
        assert "0 queued" in site.talk(rules_flow.run_pass, "n", BACK)

    def test_a_pass_waits_for_another_one(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        run_pass = one_pass.run_pass

        def busy(config: Any, *, wait: bool) -> Any:
            if not wait:
                raise one_pass.AlreadyRunning("another pass is running")
            return run_pass(config, wait=wait)

        monkeypatch.setattr(one_pass, "run_pass", busy)
        said = site.talk(rules_flow.run_pass, "n")
        assert "Another pass is running: waiting" in said
        assert "no rules" in said

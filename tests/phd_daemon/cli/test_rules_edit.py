"""`phd rules edit`: a copy is edited, checked, and put in place at once; a person decides about bad lines; no edit is lost."""

from __future__ import annotations

import errno
import io
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from phd_daemon.cli.main import run
from phd_daemon.config.load import load_config
from phd_daemon.config.model import Config
from phd_daemon.replication import rules_edit
from phd_daemon.replication.rules_edit import CheckedRules, CopyAnswer
from phd_daemon.replication.rules_file import load_rules
from restore_core import durable
from restore_core.errors import BadRule, ExitCode, Stopped, TryAgainLater, UsageError

Say = pytest.CaptureFixture[str]
UUID = "564d122a-0ed7-3b92-2f46-aee9456b2074"


def rule(site: Path, to: str) -> str:
    return f"RESTORE:CRM|{UUID}|00|CRM.vmdk|{site}/volumes/A/{to}\n"


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "volumes/A").mkdir(parents=True)
    (tmp_path / "tmp").mkdir()
    (tmp_path / "phd.toml").write_text(
        f'[replication]\nrules = "{tmp_path}/vmdks.auto"\n[datastores]\nroots = ["{tmp_path}/volumes"]\n'
    )
    (tmp_path / "vmdks.auto").write_text("# ours\n" + rule(tmp_path, "one.vmdk"))
    monkeypatch.setenv("PHD_CONFIG", str(tmp_path / "phd.toml"))
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    return tmp_path


def editor(site: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """An editor that does this with $1."""
    path = site / "my editor"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("EDITOR", f"'{path}' --some-option")
    path.write_text(f"#!/bin/sh\nshift\n{script}\n")


def never(checked: CheckedRules) -> CopyAnswer:
    raise AssertionError(checked)


def adds(line: str) -> Callable[[Path], None]:
    return writes(lambda before: before + line)


def writes(change: Callable[[str], str]) -> Callable[[Path], None]:
    def edit(copy: Path) -> None:
        copy.write_text(change(copy.read_text()))

    return edit


def settings() -> Config:
    return load_config(None)


def no_copy_is_left(site: Path) -> bool:
    return not list((site / "tmp").iterdir())


def test_what_was_edited_takes_effect(site: Path, monkeypatch: pytest.MonkeyPatch, capsys: Say) -> None:
    (site / "vmdks.auto").chmod(0o640)
    editor(site, monkeypatch, f"echo '{rule(site, 'two.vmdk').strip()}' >> \"$1\"")
    assert run(["rules", "edit"]) == 0
    assert (site / "vmdks.auto").read_text() == "# ours\n" + rule(site, "one.vmdk") + rule(site, "two.vmdk")
    assert (site / "vmdks.auto").stat().st_mode & 0o777 == 0o640
    assert capsys.readouterr().out == f"{site}/vmdks.auto: 2 rules\n"
    assert no_copy_is_left(site)


def test_nothing_was_changed(site: Path, monkeypatch: pytest.MonkeyPatch, capsys: Say) -> None:
    before = os.stat(site / "vmdks.auto")
    editor(site, monkeypatch, ":")
    assert run(["rules", "edit"]) == 0
    assert os.stat(site / "vmdks.auto") == before
    assert "nothing was changed" in capsys.readouterr().out


def test_a_first_file_begins_with_what_a_line_looks_like(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (site / "vmdks.auto").unlink()
    editor(site, monkeypatch, ":")
    assert run(["rules", "edit"]) == 0
    assert not (site / "vmdks.auto").exists()
    editor(site, monkeypatch, f"echo '{rule(site, 'two.vmdk').strip()}' >> \"$1\"")
    assert run(["rules", "edit"]) == 0
    assert (site / "vmdks.auto").read_text().splitlines()[0].startswith("# RESTORE:VM_NAME|")


def test_without_a_terminal_bad_lines_change_nothing(site: Path, monkeypatch: pytest.MonkeyPatch, capsys: Say) -> None:
    before = (site / "vmdks.auto").read_text()
    editor(site, monkeypatch, "echo 'RESTORE:CRM' >> \"$1\"")
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert run(["rules", "edit"]) == ExitCode.BAD_DATA
    assert "line 3, column" in capsys.readouterr().err
    assert (site / "vmdks.auto").read_text() == before
    assert no_copy_is_left(site)


def test_edit_again_until_it_is_right(site: Path) -> None:
    asked: list[CheckedRules] = []
    texts = iter(["nonsense\n", rule(site, "new.vmdk")])

    def again(checked: CheckedRules) -> CopyAnswer:
        asked.append(checked)
        return CopyAnswer.AGAIN

    done = rules_edit.edit(settings(), editor=writes(lambda _: next(texts)), decide=again)
    assert (done.installed, done.checked.rules, done.checked.problems) == (True, 1, ())
    assert [one.readable for one in asked] == [True]
    assert (site / "vmdks.auto").read_text() == rule(site, "new.vmdk")


def test_bad_lines_may_be_kept_but_no_file_that_is_no_list_of_rules(site: Path) -> None:
    done = rules_edit.edit(settings(), editor=adds("nonsense\n"), decide=lambda _: CopyAnswer.KEEP)
    assert (done.installed, done.checked.rules) == (True, 1)
    assert len(done.checked.problems) == 1
    assert "nonsense" in (site / "vmdks.auto").read_text()
    offered: list[tuple[CopyAnswer, ...]] = []

    def away(checked: CheckedRules) -> CopyAnswer:
        offered.append(checked.answers)
        return CopyAnswer.THROW_AWAY

    assert not rules_edit.edit(settings(), editor=adds("\0"), decide=away).installed
    assert offered == [(CopyAnswer.AGAIN, CopyAnswer.THROW_AWAY)]
    assert "\0" not in (site / "vmdks.auto").read_text()


def test_a_file_that_changed_meanwhile_is_not_overwritten(site: Path) -> None:
    def slow(copy: Path) -> None:
        copy.write_text(rule(site, "mine.vmdk"))
        (site / "vmdks.auto").write_text(rule(site, "theirs.vmdk"))

    with pytest.raises(TryAgainLater, match="has changed while") as caught:
        rules_edit.edit(settings(), editor=slow, decide=never)
    assert (site / "vmdks.auto").read_text() == rule(site, "theirs.vmdk")
    left = next((site / "tmp").iterdir()) / "vmdks.auto"
    assert str(left) in caught.value.remedy
    assert left.read_text() == rule(site, "mine.vmdk")


@pytest.mark.parametrize(
    ("command", "said"), [("/no/such/editor", "No such file"), ("false", "ended with code 1"), ("'", "$EDITOR")]
)
def test_no_editor(site: Path, monkeypatch: pytest.MonkeyPatch, capsys: Say, command: str, said: str) -> None:
    monkeypatch.setenv("EDITOR", command)
    assert run(["rules", "edit"]) == ExitCode.USAGE
    assert said in capsys.readouterr().err
    assert no_copy_is_left(site)


def test_what_was_written_outlives_an_interrupt_and_a_failing_editor(site: Path) -> None:
    def interrupted(_: CheckedRules) -> CopyAnswer:
        raise KeyboardInterrupt

    def fails(copy: Path) -> None:
        copy.write_text("mine\n")
        raise UsageError("the editor ended with code 1")

    with pytest.raises(Stopped, match="as they were") as stopped:
        rules_edit.edit(settings(), editor=adds("mine\n"), decide=interrupted)
    with pytest.raises(UsageError) as failed:
        rules_edit.edit(settings(), editor=fails, decide=never)
    for error in (stopped.value, failed.value):
        left = Path(error.remedy.removeprefix("What you wrote is in ").removesuffix("."))
        assert left.read_text().endswith("mine\n")
    assert "mine" not in (site / "vmdks.auto").read_text()


def test_visual_goes_before_editor_and_nano_before_vi(site: Path, monkeypatch: pytest.MonkeyPatch, capsys: Say) -> None:
    monkeypatch.setenv("EDITOR", "false")
    monkeypatch.setenv("VISUAL", "true")
    assert run(["rules", "edit"]) == 0
    monkeypatch.delenv("VISUAL")
    monkeypatch.setenv("EDITOR", " ")
    tools = site / "bin"
    tools.mkdir()
    monkeypatch.setenv("PATH", str(tools))
    assert run(["rules", "edit"]) == ExitCode.USAGE
    assert "there is no editor" in capsys.readouterr().err
    for name, code in (("vi", "exit 3"), ("nano", "exit 0")):
        (tools / name).write_text(f"#!/bin/sh\n{code}\n")
        (tools / name).chmod(0o755)
        assert run(["rules", "edit"]) == (ExitCode.USAGE if name == "vi" else 0)


def test_on_a_terminal_the_person_is_asked(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For real: phd on a pseudo-terminal, an editor that writes nonsense first and a good file then."""
    editor(
        site,
        monkeypatch,
        f'if grep -q nonsense "$1"; then echo \'{rule(site, "ok.vmdk").strip()}\' > "$1"; else echo nonsense > "$1"; fi',
    )
    person, theirs = pty.openpty()
    phd = [sys.executable, "-m", "phd_daemon.cli.main", "rules", "edit"]
    with subprocess.Popen(phd, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as process:
        os.close(theirs)
        said = b""
        while b"What now?" not in said:
            said += os.read(person, 1000)
        os.write(person, b"\n")
        assert process.wait(60) == 0
    os.close(person)
    assert b"line 1, column 1" in said
    assert (site / "vmdks.auto").read_text() == rule(site, "ok.vmdk")


def test_what_was_written_stays_when_it_cannot_be_put_in_place(site: Path, monkeypatch: pytest.MonkeyPatch, capsys: Say) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(site / "vmdks.auto"))

    monkeypatch.setattr("restore_core.durable.write_whole", full)
    editor(site, monkeypatch, f"echo '{rule(site, 'two.vmdk').strip()}' >> \"$1\"")
    assert run(["rules", "edit"]) == ExitCode.DESTINATION
    said = capsys.readouterr().err
    (copy,) = (site / "tmp").glob("*/vmdks.auto")
    assert "two.vmdk" in copy.read_text()
    assert f"{site}/vmdks.auto: " in said
    assert "No space left on device" in said
    assert f"What you wrote is in {copy}." in said


def test_what_was_written_stays_whatever_goes_wrong(site: Path) -> None:
    def broken(_: CheckedRules) -> CopyAnswer:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        rules_edit.edit(settings(), editor=adds("not a rule\n"), decide=broken)
    (copy,) = (site / "tmp").glob("*/vmdks.auto")
    assert caught.value.__notes__ == [f"What you wrote is in {copy}."]


@pytest.mark.parametrize("left", ['mkfifo "$1"', ":"])
def test_an_editor_that_leaves_no_plain_file(site: Path, monkeypatch: pytest.MonkeyPatch, capsys: Say, left: str) -> None:
    editor(site, monkeypatch, f'rm "$1"; {left}')
    assert run(["rules", "edit"]) == ExitCode.USAGE
    assert capsys.readouterr().err
    assert "one.vmdk" in (site / "vmdks.auto").read_text()
    assert no_copy_is_left(site)


def test_a_fifo_as_rules_file_hangs_nothing(site: Path, capsys: Say) -> None:
    (site / "vmdks.auto").unlink()
    os.mkfifo(site / "vmdks.auto")
    for command in ("edit", "load"):
        assert run(["rules", command]) == ExitCode.USAGE
        assert "is no regular file" in capsys.readouterr().err
    with pytest.raises(BadRule, match="is no regular file"):
        load_rules(settings(), keep=False)


def test_lines_loaded_between_comparison_and_replacement_are_not_lost(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`rules load` waits until the edited file is in place, and then appends to that one."""
    loading: list[threading.Thread] = []
    monkeypatch.setattr(rules_edit, "new_lines", lambda *_, **__: [rule(site, "loaded.vmdk").strip()])
    write = durable.write_whole

    def slowly(*arguments: Any, **how: Any) -> None:
        loading.append(threading.Thread(target=rules_edit.preload_rules, args=[settings()], kwargs={"active": True}))
        loading[0].start()
        loading[0].join(0.5)
        write(*arguments, **how)

    with monkeypatch.context() as patch:
        patch.setattr(durable, "write_whole", slowly)
        rules_edit.edit(settings(), editor=adds(rule(site, "two.vmdk")), decide=never)
    loading[0].join()
    assert (site / "vmdks.auto").read_text() == "# ours\n" + "".join(
        rule(site, name) for name in ("one.vmdk", "two.vmdk", "loaded.vmdk")
    )

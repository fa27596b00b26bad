"""The shell's completion, asked as a real bash and a real zsh ask: commands, jobs in the right state, targets, options."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from phd_daemon.cli.main import COMMANDS, run
from restore_core.errors import ExitCode

PHD = Path(sys.executable).with_name("phd")
Say = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    spool = tmp_path / "spool"
    spool.mkdir()
    for name in ("crm.job", "mail.held", "old.done", "wiki.running"):
        (spool / name).write_text("")
    (tmp_path / "phd.toml").write_text(
        f'[queue]\nspool = "{spool}"\n[targets.nas1]\nurl = "file:///nas1"\n[targets.nas2]\nurl = "file:///nas2"\n'
    )
    monkeypatch.setenv("PHD_CONFIG", str(tmp_path / "phd.toml"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("XDG_DATA_HOME", "BASH_COMPLETION_USER_DIR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def shell(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def bash_offers(script: Path, *words: str) -> list[str]:
    """What bash has in COMPREPLY after <Tab> at the end of these words."""
    line = " ".join(f"'{word}'" for word in words)
    program = f"""
        PATH={PHD.parent}:$PATH
        source '{script}'
        COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}
        complete -p phd >&2
        _phd_completion phd '{words[-1]}' '{words[-2]}'
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    ran = subprocess.run([shell("bash"), "--norc", "-c", program], capture_output=True, text=True, check=True)
    assert "_phd_completion" in ran.stderr
    return ran.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("phd", "re"), ["recover", "release", "replicate", "restore", "retry"]),
        (("phd", "rules", ""), ["check", "edit", "load"]),
        (("phd", "hold", ""), ["crm"]),
        (("phd", "release", ""), ["mail"]),
        (("phd", "cancel", ""), ["crm", "mail", "wiki"]),
        (("phd", "cancel", "crm", ""), ["mail", "wiki"]),
        (("phd", "clean", ""), ["old"]),
        (("phd", "log", ""), ["crm", "mail", "old", "wiki"]),
        (("phd", "priority", "c"), ["crm"]),
        (("phd", "targets", "trust", ""), ["nas1", "nas2"]),
        (("phd", "backup", "--target", "nas"), ["nas1", "nas2"]),
        (("phd", "options", "queue.w"), ["queue.workers"]),
        (("phd", "options", "queue.enabled", ""), ["on", "off"]),
        (("phd", "options", "queue.workers", ""), []),
        (("phd", "queue", "--w"), ["--watch"]),
    ],
    ids=" ".join,
)
def test_bash_completes(site: Path, words: tuple[str, ...], offered: list[str]) -> None:
    assert run(["--install-completion", "bash"]) == 0
    assert bash_offers(site / "home/.local/share/bash-completion/completions/phd", *words) == offered


def test_a_broken_configuration_offers_nothing_and_says_nothing(site: Path) -> None:
    assert run(["--install-completion", "bash"]) == 0
    (site / "phd.toml").write_text("nonsense")
    assert bash_offers(site / "home/.local/share/bash-completion/completions/phd", "phd", "hold", "") == []


def test_zsh_takes_it_from_its_function_path(site: Path, capsys: Say) -> None:
    assert run(["--install-completion", "zsh"]) == 0
    script = site / "home/.local/share/zsh/site-functions/_phd"
    assert f"fpath=('{script.parent}' $fpath)" in capsys.readouterr().out
    program = f"""
        fpath=('{script.parent}' $fpath)
        autoload -Uz compinit && compinit -u -d '{site}/dump'
        print -- $_comps[phd]
        PATH={PHD.parent}:$PATH
        COMP_WORDS='phd hold ' COMP_CWORD=2 _PHD_COMPLETE=zsh_complete phd
    """
    ran = subprocess.run([shell("zsh"), "-f", "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["_phd", "plain", "crm", "waiting"]
    assert ran.stderr == ""
    assert subprocess.run([shell("zsh"), "-n", str(script)], check=False).returncode == 0


def test_the_shell_of_the_person_is_the_one_meant(site: Path, monkeypatch: pytest.MonkeyPatch, capsys: Say) -> None:
    monkeypatch.setenv("SHELL", "/usr/bin/zsh")
    assert run(["--show-completion"]) == 0
    assert capsys.readouterr().out.startswith("#compdef phd")
    assert run(["--show-completion", "bash"]) == 0
    assert "complete -o nosort -F _phd_completion phd" in capsys.readouterr().out
    for name in ("/bin/tcsh", ""):
        monkeypatch.setenv("SHELL", name)
        assert run(["--install-completion"]) == ExitCode.USAGE
        assert "neither bash nor zsh" in capsys.readouterr().err
    assert not (site / "home").exists()


def test_the_places_a_person_has_chosen(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(site / "data"))
    assert run(["--install-completion", "bash"]) == 0
    assert (site / "data/bash-completion/completions/phd").stat().st_mode & 0o777 == 0o644
    monkeypatch.setenv("BASH_COMPLETION_USER_DIR", str(site / "mine"))
    assert run(["--install-completion", "bash"]) == 0
    assert (site / "mine/completions/phd").exists()


@pytest.mark.parametrize(
    "words", [("verify",), ("vmx", "x", "--to"), ("restore", "x", "--to"), ("submit",), ("backup",)], ids=" ".join
)
def test_paths_are_left_to_the_shell(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: Say) -> None:
    monkeypatch.setenv("COMP_WORDS", " ".join(["phd", *words, "/ba"]))
    monkeypatch.setenv("COMP_CWORD", str(len(words) + 1))
    monkeypatch.setenv("_PHD_COMPLETE", "bash_complete")
    with pytest.raises(SystemExit):
        run([])
    assert capsys.readouterr().out in ("file,/ba\n", "dir,/ba\n")


def test_every_command_is_offered(site: Path) -> None:
    assert run(["--install-completion", "bash"]) == 0
    offered = bash_offers(site / "home/.local/share/bash-completion/completions/phd", "phd", "")
    assert set(offered) == set(COMMANDS)

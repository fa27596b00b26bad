"""The documents say what the program is: every command, state, key and exit code is in docs/reference.md, and every link leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from phd_daemon.cli.main import COMMANDS
from phd_daemon.spool.control_file import parse_control_file
from phd_daemon.spool.layout import State
from restore_core.errors import BadControlFile, ExitCode

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])
REFERENCE = (ROOT / "docs" / "reference.md").read_text()
_LINK = re.compile(r"\]\(([^)#]*)(#[^)]*)?\)")


def section(title: str) -> str:
    return REFERENCE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_every_command_is_in_the_reference() -> None:
    words = set(re.findall(r"`phd ([a-z]+)", section("Commands"))) | set(re.findall(r"[a-z]+", section("Commands")))
    assert set(COMMANDS) <= words


def test_no_command_in_the_reference_is_made_up() -> None:
    named = set(re.findall(r"`phd ([a-z]+)", section("Commands")))
    assert named - {"hold"} <= set(COMMANDS)


def test_every_state_is_in_the_reference() -> None:
    assert [state for state in State if f"`crm.{state.value}`" not in section("The spool")] == []


def test_every_key_of_a_control_file_is_in_the_reference_and_none_is_made_up() -> None:
    shown = re.findall(r"^    ([a-z_]+) +=", section("The control file"), re.MULTILINE)
    made_up = [f"{key} = []" for key in shown]  # no key takes a list: each is refused, but not as unknown
    with pytest.raises(BadControlFile) as refused:
        parse_control_file("\n".join(made_up).encode())
    assert "unknown" not in str(refused.value)
    assert all(key in str(refused.value) for key in shown)
    with pytest.raises(BadControlFile) as refused:
        parse_control_file(b"zzz = 1")
    known = re.findall(r"[a-z_]+", str(refused.value).rpartition(":")[2])
    assert set(known) <= set(shown) | {"delta", "restore_to", "is", "missing"}


def test_every_exit_code_is_in_the_reference() -> None:
    rows = {int(code) for code in re.findall(r"^\| (\d+) \|", section("Exit codes"), re.MULTILINE)}
    assert set(map(int, ExitCode)) <= rows


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for where, anchor in _LINK.findall(page.read_text()):
        if where.startswith("http"):
            continue
        to = (page.parent / where) if where else page
        assert to.exists(), where
        if anchor:
            titles = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.*)$", to.read_text(), re.MULTILINE)}
            assert anchor[1:] in titles, f"{where}{anchor}"


def test_the_readme_is_for_two_minutes() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 150
    assert any(line.startswith("![") for line in lines[:15]), "a picture near the top"

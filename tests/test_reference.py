"""The documents say what the program is: commands, states, keys and exit codes, and every link leads somewhere."""

from __future__ import annotations

import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_type_hints

import pytest

from phd_daemon.cli.main import COMMANDS
from phd_daemon.spool.control_file import ControlFile
from phd_daemon.spool.layout import State
from restore_core.errors import ExitCode
from restore_core.targets.base import ArchiveRef

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


def _keys(record: type) -> list[str]:
    """The keys of a control file: the fields of its record, those of records in it included."""
    kinds = get_type_hints(record)
    return [
        key
        for field in fields(record)
        for key in (
            _keys(kinds[field.name]) if is_dataclass(kinds[field.name]) and kinds[field.name] is not ArchiveRef else [field.name]
        )
    ]


def test_every_key_of_a_control_file_is_in_the_reference() -> None:
    shown = re.findall(r"^    ([a-z_]+) +=", section("The control file"), re.MULTILINE)
    assert sorted(shown) == sorted(_keys(ControlFile))


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
            titles = {
                re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-")
                for title in re.findall(r"^#+ (.*)$", to.read_text(), re.MULTILINE)
            }
            assert anchor[1:] in titles, f"{where}{anchor}"


def test_the_trips_name_files_that_exist_and_count_them_right() -> None:
    rows = re.findall(r"^\| .* → .* \| (\d+) \| (.*) \|$", (ROOT / "docs" / "ARCHITECTURE.md").read_text(), re.MULTILINE)
    assert len(rows) == 4
    for count, places in rows:
        files = [(room, name) for room, names in re.findall(r"`(\w+)/`: ([^;]+)", places) for name in names.strip().split(", ")]
        known = {str(path.with_suffix("")) for top in ("restore_core", "phd_daemon") for path in (ROOT / top).rglob("*.py")}
        assert [file for file in files if not any(path.endswith("/" + "/".join(file)) for path in known)] == []
        assert len(files) == int(count)


def test_the_readme_is_for_two_minutes() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 150
    assert any(line.startswith("![") for line in lines[:15]), "a picture near the top"

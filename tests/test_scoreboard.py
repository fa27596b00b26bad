"""A short part of the scoreboard, and that its planted bugs are caught: the whole of it is `make proof`."""

from __future__ import annotations

import ast
import builtins
import importlib
import re
from operator import attrgetter
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from tests.proof.scoreboard import ROOT, Row, all_rows, in_child

SEED = 20261122
SHORT = [row for row in all_rows() if row.short is not None]


@pytest.mark.parametrize("row", SHORT, ids=lambda row: row.id)
def test_a_short_part_of_each_row_is_green(row: Row) -> None:
    result = in_child(row, seed=SEED, share=row.short or 1.0)
    if result.not_run:
        pytest.skip(result.not_run)
    assert result.green, result


def test_a_planted_bug_turns_a_row_red() -> None:
    row = next(row for row in all_rows() if row.id == "R10")
    assert not in_child(row, seed=SEED, share=0.02, mutant="bits:verify_skips_the_blocks").green


def test_every_row_has_a_planted_bug_and_a_number_of_its_own() -> None:
    rows = all_rows()
    assert [row.id for row in rows if not row.mutants] == []
    assert len({row.id for row in rows}) == len(rows)


def test_the_program_knows_no_planted_bug() -> None:
    words = re.compile("PHD_PROOF|sitecustomize|mutant")
    found = [
        str(path)
        for top in ("restore_core", "phd_daemon")
        for path in Path(ROOT, top).rglob("*.py")
        if words.search(path.read_text())
    ]
    assert found == []


def _replaced(module: ModuleType) -> list[tuple[str, object, str]]:
    """(text, owner, attribute) of each `setattr(owner, "attribute", ...)` in a module of planted bugs, loops over owners spread."""
    found = []
    for function in ast.parse(Path(module.__file__ or "").read_text()).body:
        known = {**vars(module), **_imported_in(function)}
        loops = {
            id(inner): (ast.unparse(node.target), [ast.unparse(item) for item in node.iter.elts])
            for node in ast.walk(function)
            if isinstance(node, ast.For) and isinstance(node.iter, ast.Tuple)
            for inner in ast.walk(node)
        }
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "setattr" and isinstance(node.args[1], ast.Constant):
                text = ast.unparse(node.args[0])
                variable, owners = loops.get(id(node), ("", []))
                owners = owners if text == variable else [text]
                named = SimpleNamespace(**known)
                # A local of the function is left out: the row itself shows what it does.
                found += [
                    (each, attrgetter(each)(named), str(node.args[1].value)) for each in owners if each.split(".")[0] in known
                ]
    return found


def _imported_in(function: ast.AST) -> dict[str, object]:
    known: dict[str, object] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.ImportFrom) and node.module != "__future__":
            source = importlib.import_module(node.module or "")
            for name in node.names:
                if not hasattr(source, name.name):
                    importlib.import_module(f"{node.module}.{name.name}")
                known[name.asname or name.name] = getattr(source, name.name)
    return known


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "tests/proof/mutants").glob("[a-z]*.py")))
def test_a_planted_bug_replaces_something_that_is_there(name: str) -> None:
    """A planted bug that sets a name nobody reads is no bug, and proves nothing; a rename must not leave one behind."""
    for text, owner, attribute in _replaced(importlib.import_module(f"tests.proof.mutants.{name}")):
        assert hasattr(owner, attribute) or hasattr(builtins, attribute), f"{name}: {text}.{attribute}"

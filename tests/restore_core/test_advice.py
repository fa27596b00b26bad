"""No error of the system is answered with one advice for all of them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KNOWN = {"error", "remedy_for", "remedy", "_remedy"}
"""An advice that one of these names is in depends on the error."""
SORTED_BEFORE = {
    "restore_core/disk/confinement.py": 1,  # a datastore that is not there
    "restore_core/restore/refusals.py": 1,  # a link or a FIFO; errors of the moment are told before
    "restore_core/restore/replace.py": 1,  # a name that is taken
    "restore_core/serve/nbd/tcp.py": 1,  # a port that is taken
    "phd_daemon/operations/instant/session_disks.py": 1,  # an overlay that is not there; errors of the moment are told before
    "phd_daemon/operations/rules.py": 1,  # an editor that cannot be started
}


def fixed_advice(text: str) -> Iterator[int]:
    """Yields the lines of an `except OSError` where an advice is the same for every error."""
    for handler in ast.walk(ast.parse(text)):
        if not isinstance(handler, ast.ExceptHandler) or ast.unparse(handler.type or ast.Name("")) != "OSError":
            continue
        for call in (node for node in ast.walk(handler) if isinstance(node, ast.Call)):
            for given in (keyword.value for keyword in call.keywords if keyword.arg in ("remedy", "mend")):
                if not any(isinstance(node, ast.Name) and node.id in KNOWN for node in ast.walk(given)):
                    yield call.lineno


@pytest.mark.parametrize("package", ["restore_core", "phd_daemon"])
def test_the_advice_for_an_error_of_the_system_depends_on_the_error(package: str) -> None:
    found = {
        str(path.relative_to(ROOT)): lines
        for path in sorted((ROOT / package).rglob("*.py"))
        if (lines := list(fixed_advice(path.read_text())))
    }
    assert {path: len(lines) for path, lines in found.items()} == {
        path: count for path, count in SORTED_BEFORE.items() if path.startswith(package)
    }, found


def test_a_fixed_advice_is_seen() -> None:
    bad = "try:\n    pass\nexcept OSError as error:\n    raise X(str(error), remedy='Check space and rights.') from error\n"
    assert list(fixed_advice(bad)) == [4]
    assert list(fixed_advice(bad.replace("'Check space and rights.'", "remedy_for(error)"))) == []

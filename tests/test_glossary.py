"""One word, one meaning: each public name and module name stands once in the product, or a list says why it stands again."""

from __future__ import annotations

import ast
import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from phd_daemon.spool.layout import Act, State

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("restore_core", "phd_daemon")
COMMANDS = Path("phd_daemon/cli/commands")
"""A command, its module and its function are named by the word that people type; so may be the operation that does it."""

PEOPLE_MEET = (
    "phd_daemon/spool/layout.py", "phd_daemon/spool/control_file.py", "restore_core/restore/request.py", "restore_core/naming.py",
)  # fmt: skip

_SERVERS = "one for each kind of server, with the same task"
_FLOW = "the flow of the console, and the operation that it shows"
_ASKED = "the operation, and what does it in the room below"
_DISK_AND_QUEUE = "of disks in the library, of the queue in the daemon"
_HALVES = "the same thing of a backup and of a restore"

FILES = {
    "connection": _SERVERS,
    "datastores": "datastores: as doctor examines them, as the host knows them, as a person asks about them",
    "full": _HALVES,
    "listing": "the listing of a server as it answers, and of a target as the cache keeps it",
    "locks": _DISK_AND_QUEUE,
    "login": _SERVERS,
    "rules": "the rules: their grammar, their examination, what can be asked about them, how they are shown",
    "run": _HALVES,
    "scan": _DISK_AND_QUEUE,
    "targets": "targets: as doctor examines them, and as a person asks about them",
}
NAMES = {
    "Buffer": "the same type; archive says it without the targets",
    "accept": "a person accepts a disk or an emptied target; intake accepts a job. Each is a decision to take what came",
    "apply": "carries out what was written down before: a redo file, an action of reconcile",
    "ask_identity": _SERVERS,
    "by_vmdk": _FLOW,
    "clean": _ASKED,
    "counted": "the plan by number of blocks, and a number with its noun",
    "edit": _FLOW,
    "examine": "each check of 'phd doctor' has one; intake examines a file that came",
    "exit_code": "that of a job, and that of a pass",
    "forget": "drops a record: of a datastore, of a job",
    "holder": "who has the lock: of a disk, of the spool",
    "identity_of": "of an open file, and of a control file by its name",
    "log_in": _SERVERS,
    "main": "where a process begins",
    "open_face": "each face of the console opens itself",
    "open_target": _SERVERS,
    "put_vmx": "a restore does it by itself, the console when its person asks for it afterwards",
    "redraw": "a line over the last one, and the live report that uses it",
    "reject": "the answer of intake, and the transition that follows",
    "removal": _SERVERS,
    "run_pass": _FLOW,
    "set_priority": _ASKED,
}


def sources(root: Path) -> Iterator[Path]:
    for top in PACKAGES:
        yield from (path.relative_to(root) for path in sorted((root / top).rglob("*.py")))


def public_names(tree: ast.Module) -> Iterator[str]:
    """Classes, functions, and types that are named by an assignment."""
    for node in tree.body:
        names = [node.name] if isinstance(node, ast.ClassDef | ast.FunctionDef) else []
        if isinstance(node, ast.Assign | ast.AnnAssign):
            to = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [one.id for one in to if isinstance(one, ast.Name) and re.match("[A-Z][a-z]", one.id)]
        yield from (name for name in names if not name.startswith("_"))


def modules_of_one_name(root: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sources(root):
        if path.name != "__init__.py" and COMMANDS not in path.parents:
            found[path.stem].append(path)
    return {name: where for name, where in found.items() if len(where) > 1}


def things_of_one_name(root: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = defaultdict(list)
    for path in sources(root):
        if COMMANDS not in path.parents:
            for name in set(public_names(ast.parse((root / path).read_text()))):
                found[name].append(path)
    return {name: where for name, where in found.items() if len(where) > 1}


CHECKS = [(modules_of_one_name, FILES), (things_of_one_name, NAMES)]


@pytest.mark.parametrize(("find", "reasons"), CHECKS)
def test_one_word_has_one_meaning(find: Callable[[Path], dict[str, list[Path]]], reasons: dict[str, str]) -> None:
    twice = find(ROOT)
    assert {name: [str(path) for path in where] for name, where in twice.items() if name not in reasons} == {}
    assert [name for name in reasons if name not in twice] == []


@pytest.mark.parametrize(
    ("find", "where", "text", "name"),
    [
        (modules_of_one_name, "phd_daemon/daemon/redo.py", "", "redo"),
        (things_of_one_name, "phd_daemon/daemon/planted.py", "class Verdict:\n    pass", "Verdict"),
        (things_of_one_name, "phd_daemon/daemon/planted.py", "Stop = int", "Stop"),
        (things_of_one_name, "restore_core/planted.py", "def select():\n    pass", "select"),
    ],
)
def test_a_second_meaning_is_seen(
    find: Callable[[Path], dict[str, list[Path]]], where: str, text: str, name: str, tmp_path: Path
) -> None:
    for top in PACKAGES:
        shutil.copytree(ROOT / top, tmp_path / top, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / where).write_text(text)
    assert name in find(tmp_path)


def entries() -> list[tuple[str, str]]:
    lines = (ROOT / "docs/glossary.md").read_text().splitlines()
    found = [re.fullmatch(r"\* \*\*(.+?)\*\*: (.+)", line) for line in lines if line.startswith("*")]
    assert all(found), "an entry is one line: * **word**: meaning"
    return [(match[1], match[2]) for match in found if match]


def test_the_glossary_is_in_order_and_short() -> None:
    words = [word for word, _ in entries()]
    assert words == sorted(words, key=str.casefold)
    assert len({word.casefold() for word in words}) == len(words)
    assert [word for word, meaning in entries() if len(meaning) > 2 * 80] == []


def test_what_people_meet_is_in_the_glossary() -> None:
    text = "\n".join(meaning for _, meaning in entries())
    words = {word.casefold() for word, _ in entries()}
    classes = [
        node.name
        for path in PEOPLE_MEET
        for node in ast.parse((ROOT / path).read_text()).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]
    assert classes
    assert [name for name in classes if f"`{name}`" not in text] == []
    assert [state.meaning for state in State if state.meaning not in words] == []
    assert [act.value for act in Act if act.value not in text] == []

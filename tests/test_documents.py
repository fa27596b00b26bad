"""What the pages and the comments cite exists: files, modules, names in modules, pages."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOPS = ("restore_core", "phd_daemon", "tests", "docs", "etc", "systemd")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "restore_core" / "archive" / "FORMAT.md"]
SOURCES = sorted(path for top in TOPS[:3] for path in (ROOT / top).rglob("*") if path.suffix in (".py", ".sh"))
SOURCES.remove(Path(__file__).resolve())

_PATH = re.compile(r"(?<![\w./*{}-])((?:\.\./)*(?:[\w-]+/)*[\w-]+\.(?:py|md|sh))\b(?!-)")
_DOTTED = re.compile(r"\b((?:restore_core|phd_daemon)(?:\.[A-Za-z_]\w*)+)")
_NOT_HERE = re.compile(r"\b(?:DESIGN|FAULTS|HOUSE)\b")
"""Pages of those who planned this program, which nobody else has."""

_NO_FILES = {"install.sh", "x.py", "a.py", "b.py", "setup.py", "planted.py", "tool.py"}
"""Names that tests and examples make up."""


@cache
def files() -> frozenset[str]:
    """All files of the repository, each with a slash in front."""
    tops = {f"/{path.relative_to(ROOT)}" for top in TOPS for path in (ROOT / top).rglob("*") if "__pycache__" not in path.parts}
    return frozenset(tops | {f"/{path.name}" for path in ROOT.glob("*.*")})


def has_file(path: str) -> bool:
    """Whether a path, perhaps without its first folders, is a file here."""
    return any(name.endswith("/" + path.lstrip("./")) for name in files())


@cache
def names_in(path: Path) -> frozenset[str]:
    """What a module defines at its top, and `Class.member`."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        inner = node.body if isinstance(node, ast.ClassDef) else []
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{name}" for each in inner for name in _defined(each)}
        found |= set(_defined(node))
    return frozenset(found)


def _defined(node: ast.stmt) -> list[str]:
    match node:
        case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
            return [node.name]
        case ast.Assign():
            return [name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)]
        case ast.AnnAssign(target=ast.Name(id=name)):
            return [name]
        case ast.Import() | ast.ImportFrom():
            return [(alias.asname or alias.name).split(".")[0] for alias in node.names]
        case ast.If() | ast.Try():
            return [name for each in node.body for name in _defined(each)]
        case _:
            return []


def has_name(dotted: str) -> bool:
    """Whether `package.module.name` is a module, or is defined in one."""
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        place = ROOT.joinpath(*parts[:count])
        module = place.with_suffix(".py") if place.with_suffix(".py").is_file() else place / "__init__.py"
        if module.is_file():
            return count == len(parts) or ".".join(parts[count : count + 2]) in names_in(module)
    return False


def missing(path: Path, text: str) -> list[str]:
    """What a page or a source cites that does not exist."""
    where = path.relative_to(ROOT)
    cited = {name for name in _PATH.findall(text) if name not in _NO_FILES}
    found = [f"{where}: no file {name}" for name in sorted(cited) if not has_file(name)]
    found += [f"{where}: no {name}" for name in sorted(set(_DOTTED.findall(text))) if not has_name(name)]
    return found + [f"{where}: {name} is no page of this repository" for name in sorted(set(_NOT_HERE.findall(text)))]


def prose(path: Path) -> str:
    """The comments and docstrings of a source."""
    text = path.read_text()
    if path.suffix != ".py":
        return "\n".join(line for line in text.splitlines() if line.lstrip().startswith("#"))
    strings = [
        node.value.value
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]
    return "\n".join([*strings, *re.findall(r"(?:^|\s)#.*$", text, re.MULTILINE)])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_cites_exists(page: Path) -> None:
    assert missing(page, page.read_text()) == []


def test_what_comments_and_docstrings_cite_exists() -> None:
    assert [fault for path in SOURCES for fault in missing(path, prose(path))] == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("`nowhere.py`", "no file nowhere.py"),
        ("`disk/nowhere.py`", "no file disk/nowhere.py"),
        ("see docs/nowhere.md", "no file docs/nowhere.md"),
        ("DESIGN §3.2", "DESIGN is no page of this repository"),
        ("`restore_core.disk.nowhere`", "no restore_core.disk.nowhere"),
        ("`restore_core.disk.hold.nothing`", "no restore_core.disk.hold.nothing"),
        ("`restore_core.disk.hold.Hold.nothing`", "no restore_core.disk.hold.Hold.nothing"),
    ],
)
def test_a_wrong_citation_is_seen(text: str, said: str) -> None:
    page = ROOT / "docs" / "faults.md"
    good = "`disk/hold.py` restore_core.disk.hold.Hold.release"
    assert missing(page, good) == []
    assert missing(page, f"{good} {text}") == [f"docs/faults.md: {said}"]

"""The house rules that no linter knows. Each is a function from a checkout to its violations, and each is shown to see one."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("restore_core", "phd_daemon")
MAX_MODULE, MAX_FUNCTION = 350, 50

TOP_LEVEL = {"pyproject.toml", "phd_daemon", "restore_core", "etc", "systemd", "tests"}
TOP_LEVEL |= {"README.md", "Makefile", "docs", "LICENSE", "CHANGELOG.md"}

GROUND = frozenset({"errors", "naming", "durable", "mounts", "capabilities"})
ARROWS: dict[str, frozenset[str]] = {
    "errors": frozenset(),
    "naming": frozenset({"errors"}),
    "durable": frozenset({"errors"}),
    "mounts": frozenset({"errors"}),
    "capabilities": frozenset({"errors", "naming", "durable", "mounts"}),
    "targets": GROUND,
    "disk": GROUND,
    "archive": GROUND | {"targets"},
    "catalog": GROUND | {"targets", "archive"},
    "backup": GROUND | {"targets", "archive", "catalog", "disk"},
    "restore": GROUND | {"targets", "archive", "catalog", "disk"},
    "serve": GROUND | {"targets", "archive", "disk", "restore"},
    "replication": GROUND | {"targets", "catalog"},
}
"""What each part of restore_core may import of the others. A new part is a decision: write it down here."""

_SPOOL = frozenset({"config", "spool"})
_DAEMON = _SPOOL | {"host", "worker", "replication", "show"}
ROOMS: dict[str, frozenset[str]] = {
    "config": frozenset(),
    "spool": frozenset({"config"}),
    "show": frozenset(),
    "host": _SPOOL,
    "worker": _SPOOL | {"host", "show"},
    "guest": frozenset({"host", "worker"}),
    "replication": _SPOOL | {"host", "worker", "show"},
    "daemon": _DAEMON,
    "drill": frozenset({"spool", "host", "worker"}),
    "operations": (_DAEMON | {"daemon", "drill", "guest"}) - {"show"},
    "doctor": _DAEMON | {"daemon", "drill", "operations"},
    "cli": _DAEMON | {"daemon", "drill", "operations", "doctor"},
    "console": _SPOOL | {"host", "replication", "operations", "show"},
}
"""What each room of phd_daemon may import of the others. A new room is a decision: write it down here."""
OPENS_THE_CONSOLE = {("phd_daemon.cli.main", "phd_daemon.console.opening")}

RENAMES = {
    Path("phd_daemon/spool/transitions.py"),
    Path("phd_daemon/spool/own_files.py"),  # status files and records, which are replaced, and what has their names
    Path("phd_daemon/spool/job_log.py"),  # a new log, which gets its name
}
DURABLE_ONLY = {"fsync", "fdatasync", "sync", "rename", "renames", "link", "renameat2", "hardlink_to"}
RUNS_PROGRAMS = {"subprocess", "multiprocessing", "pty", "pexpect"}
OS_RUNS = ("os.exec", "os.spawn", "os.posix_spawn", "os.system", "os.popen", "os.fork")
DAEMON_LIBRARIES = {"pydantic", "watchdog", "structlog", "rich", "click", "tomlkit", "daemon"}
VAGUE = {"util", "utils", "helper", "helpers", "common", "manager", "managers", "misc"}

Check = Callable[[Path], list[str]]


def files(root: Path, *tops: str) -> list[Path]:
    return [path.relative_to(root) for top in tops for path in sorted((root / top).rglob("*.py"))]


def modules(root: Path, *tops: str) -> Iterator[tuple[Path, ast.Module]]:
    for path in files(root, *tops):
        yield path, ast.parse((root / path).read_text(), str(path))


def dotted(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, tree: ast.Module) -> Iterator[str]:
    """Every module that is named in an import, wherever it stands; `from a import b` yields `a.b`, which may be a module."""
    package = dotted(path).split(".") if path.name == "__init__.py" else dotted(path).split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            yield from (".".join([*base, *([node.module] if node.module else []), alias.name]) for alias in node.names)


def below(name: str, *tops: str) -> bool:
    return any(name == top or name.startswith(top + ".") for top in tops)


def arrows_between_packages(root: Path) -> list[str]:
    """restore_core never imports phd_daemon."""
    return [
        f"{path}: imports {name}"
        for path, tree in modules(root, "restore_core")
        for name in imports(path, tree)
        if below(name, "phd_daemon")
    ]


def arrows_inside_the_daemon(root: Path) -> list[str]:
    """Faces import operations, these the rooms of the daemon, these the spool and the configuration; never the other way."""
    faults = []
    for path, tree in modules(root, "phd_daemon"):
        room = dotted(path).split(".")[1:2]
        if not room:
            continue
        if room[0] not in ROOMS:
            faults.append(f"{path}: {room[0]} is no room named in ROOMS")
            continue
        for name in imports(path, tree):
            to = name.split(".")
            outside = to[0] == "phd_daemon" and len(to) > 1 and to[1] not in ROOMS[room[0]] | set(room)
            if outside and (dotted(path), ".".join(to[:3])) not in OPENS_THE_CONSOLE:
                faults.append(f"{path}: {room[0]} imports {name}")
    return faults


def faces_act_through_operations(root: Path) -> list[str]:
    """What writes to a disk, to phd.toml or to the trusted servers has one place that all faces call; none calls below it."""
    acts = {
        "SettingsFile",
        "write_stub",
        "restore_vmx",
        "recover_disk",
        "restore_delta",
        "restore_full",
        "server_identity",
        "record",
    }
    return [
        f"{path}: calls {node.func.id}"
        for path, tree in modules(root, "phd_daemon/cli", "phd_daemon/console")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in acts
    ]


def operations_have_no_face(root: Path) -> list[str]:
    """What a person can ask for returns records: no operation prints, asks or draws."""
    faces = ("click", "rich", "textual", "phd_daemon.show", "phd_daemon.cli", "phd_daemon.console")
    return [
        f"{path}: imports {name}"
        for path, tree in modules(root, "phd_daemon/operations")
        for name in imports(path, tree)
        if below(name, *faces)
    ]


def no_circles(root: Path) -> list[str]:
    """Modules that import each other in a circle, wherever in the file the import stands."""
    known = {dotted(path) for path in files(root, *PACKAGES)}
    graph: dict[str, set[str]] = {}
    for path, tree in modules(root, *PACKAGES):
        named = {name if name in known else name.rpartition(".")[0] for name in imports(path, tree)}
        graph[dotted(path)] = (named & known) - {dotted(path)}
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        return [" -> ".join(error.args[1])]
    return []


def arrows_inside_the_library(root: Path) -> list[str]:
    faults = []
    for path, tree in modules(root, "restore_core"):
        part = dotted(path).split(".")[1:2]
        if not part:
            continue
        if part[0] not in ARROWS:
            faults.append(f"{path}: {part[0]} is no part named in ARROWS")
            continue
        allowed = ARROWS[part[0]] | set(part)
        for name in imports(path, tree):
            to = name.split(".")
            if to[0] == "restore_core" and len(to) > 1 and to[1] in ARROWS and to[1] not in allowed:
                faults.append(f"{path}: {part[0]} imports {name}")
    return faults


def only_durable_renames_and_syncs(root: Path) -> list[str]:
    faults = []
    for path, tree in modules(root, *PACKAGES):
        if path == Path("restore_core/durable.py"):
            continue
        called = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        faults += [
            f"{path}: imports {name}"
            for name in imports(path, tree)
            if name in {f"os.{word}" for word in {*DURABLE_ONLY, "replace"}}
        ]
        faults += [f"{path}:{call.lineno}: {ast.unparse(call.func)}()" for call in called if _changes_a_name(call)]
    return faults


def _changes_a_name(call: ast.Call) -> bool:
    function = call.func
    if not isinstance(function, ast.Attribute):
        return False
    module = function.value.id if isinstance(function.value, ast.Name) else ""
    if module == "durable":
        return False
    if function.attr == "replace":
        # str.replace takes two, datetime.replace and dataclasses.replace take keywords: one alone is Path.replace.
        return module == "os" or (len(call.args) == 1 and not call.keywords)
    if function.attr == "move":
        return module == "shutil"
    return function.attr in DURABLE_ONLY


def only_transitions_rename_job_files(root: Path) -> list[str]:
    """In the daemon's package, `transitions` alone gives job files other names."""
    faults = []
    for path, tree in modules(root, "phd_daemon"):
        if path in RENAMES:
            continue
        renames = {f"durable.{word}" for word in ("move", "exchange", "name")}
        called = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        faults += [
            f"{path}: {name}"
            for name in (called & renames) | {name for name in imports(path, tree) if name.endswith(tuple(renames))}
        ]
    return faults


def nothing_is_executed(root: Path) -> list[str]:
    """The library and the worker start no program, whatever lies in an archive."""
    faults = []
    for path, tree in modules(root, *PACKAGES):
        if path.parts[0] != "restore_core" and path != Path("phd_daemon/worker/attempt.py"):
            continue
        starts = [node for node in ast.walk(tree) if _starts_a_program(node)]
        faults += [
            f"{path}: imports {name}" for name in imports(path, tree) if below(name, *RUNS_PROGRAMS) or name.startswith(OS_RUNS)
        ]
        faults += [f"{path}:{ast.unparse(node)}" for node in starts]
    return faults


def _starts_a_program(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute):
        return ast.unparse(node).startswith(OS_RUNS)
    return isinstance(node, ast.Name) and node.id in {"eval", "exec"}


def the_library_is_a_library(root: Path) -> list[str]:
    """No signals, no environment, no set-up of logging, and none of the daemon's libraries."""
    faults = []
    forbidden = {*DAEMON_LIBRARIES, "signal", "logging.config", "logging.handlers", "os.environ", "os.getenv"}
    for path, tree in modules(root, "restore_core"):
        faults += [f"{path}: imports {name}" for name in imports(path, tree) if below(name, *forbidden)]
        touched = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
        faults += [f"{path}: {name}" for name in touched if name in {"os.environ", "os.getenv", "logging.basicConfig"}]
    return faults


def names_say_something(root: Path) -> list[str]:
    return [str(path) for path in files(root, *PACKAGES, "tests") if VAGUE & set(path.with_suffix("").parts)]


def modules_are_short(root: Path) -> list[str]:
    sizes = {path: len((root / path).read_text().splitlines()) for path in files(root, *PACKAGES, "tests/bench", "tests/demo")}
    return [f"{path}: {lines} lines" for path, lines in sizes.items() if lines > MAX_MODULE]


def functions_are_short(root: Path) -> list[str]:
    faults = []
    for path, tree in modules(root, *PACKAGES, "tests/bench", "tests/demo"):
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                faults += [f"{path}:{node.lineno}: {node.name} has {lines} lines"] * (lines > MAX_FUNCTION)
    return faults


def the_worker_is_light(root: Path) -> list[str]:
    """What a worker imports in the end, through whatever: time and memory that every job would pay."""
    program = f"import phd_daemon.worker.attempt, sys; print(*sorted({DAEMON_LIBRARIES!r} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False)
    return ran.stdout.split() if ran.returncode == 0 else [ran.stderr.strip()]


def top_level_is_the_one_agreed(root: Path) -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True).stdout
    tops = {name.split("/")[0] for name in listed.split("\0") if name}
    return sorted(top for top in tops if top not in TOP_LEVEL and not top.startswith("."))


PLANTS: list[tuple[Check, str, str]] = [
    (arrows_between_packages, "restore_core/naming.py", "from phd_daemon.spool import snapshot"),
    (arrows_between_packages, "restore_core/archive/planted.py", "def f():\n    import phd_daemon"),
    (arrows_inside_the_daemon, "phd_daemon/planted.py", ""),
    (arrows_inside_the_daemon, "phd_daemon/spool/planted.py", "from ..cli import main"),
    (arrows_inside_the_daemon, "phd_daemon/operations/planted.py", "def f():\n    from phd_daemon.show import output"),
    (arrows_inside_the_daemon, "phd_daemon/show/planted.py", "from phd_daemon.spool import layout"),
    (arrows_inside_the_daemon, "phd_daemon/worker/planted.py", "from phd_daemon.daemon import service"),
    (arrows_inside_the_daemon, "phd_daemon/cli/planted.py", "from phd_daemon.console import opening"),
    (faces_act_through_operations, "phd_daemon/cli/planted.py", "def f(flat):\n    return write_stub(flat)"),
    (faces_act_through_operations, "phd_daemon/console/planted.py", "def f(config):\n    return SettingsFile(config)"),
    (faces_act_through_operations, "phd_daemon/cli/planted.py", "def f(shown):\n    record(shown)"),
    (operations_have_no_face, "phd_daemon/operations/submit.py", "import click"),
    (operations_have_no_face, "phd_daemon/operations/planted.py", "def f():\n    from rich.table import Table"),
    (operations_have_no_face, "phd_daemon/operations/planted.py", "from textual.app import App"),
    (no_circles, "phd_daemon/spool/layout.py", "def f():\n    from phd_daemon.spool import scan"),
    (no_circles, "restore_core/disk/hold.py", "from restore_core.restore.part import held_destination"),
    (arrows_inside_the_library, "restore_core/errors.py", "from restore_core import naming"),
    (arrows_inside_the_library, "restore_core/durable.py", "from . import archive"),
    (arrows_inside_the_library, "restore_core/targets/planted.py", "from ..archive import header"),
    (arrows_inside_the_library, "restore_core/archive/planted.py", "import restore_core.backup.planted"),
    (arrows_inside_the_library, "restore_core/archive/planted.py", "from restore_core.replication import rules"),
    (arrows_inside_the_library, "restore_core/disk/planted.py", "from restore_core.restore.request import Phase"),
    (arrows_inside_the_library, "restore_core/newpart.py", ""),
    (only_durable_renames_and_syncs, "restore_core/planted.py", "import os\nos.fsync(1)"),
    (only_durable_renames_and_syncs, "phd_daemon/planted.py", "from os import replace"),
    (only_durable_renames_and_syncs, "phd_daemon/planted.py", "from pathlib import Path\nPath('a').rename('b')"),
    (only_durable_renames_and_syncs, "phd_daemon/planted.py", "def f(path, to):\n    path.replace(to)"),
    (only_durable_renames_and_syncs, "phd_daemon/planted.py", "import os\nos.replace('a', 'b', src_dir_fd=1)"),
    (only_durable_renames_and_syncs, "phd_daemon/planted.py", "import shutil\nshutil.move('a', 'b')"),
    (only_durable_renames_and_syncs, "restore_core/planted.py", "def f(libc):\n    libc.renameat2(1, b'a', 1, b'b', 1)"),
    (only_transitions_rename_job_files, "phd_daemon/spool/planted.py", "from restore_core import durable\ndurable.move('a', 'b')"),
    (only_transitions_rename_job_files, "phd_daemon/daemon/planted.py", "from restore_core.durable import exchange"),
    (
        only_transitions_rename_job_files,
        "phd_daemon/spool/intake.py",
        "def f(path):\n    durable.name(path, path)",
    ),
    (nothing_is_executed, "restore_core/planted.py", "import subprocess"),
    (nothing_is_executed, "restore_core/planted.py", "import os\nos.execv('/bin/sh', [])"),
    (nothing_is_executed, "phd_daemon/worker/attempt.py", "from subprocess import run"),
    (nothing_is_executed, "phd_daemon/worker/attempt.py", "from os import system"),
    (nothing_is_executed, "restore_core/planted.py", "exec('1')"),
    (the_library_is_a_library, "restore_core/planted.py", "import pydantic"),
    (the_library_is_a_library, "restore_core/planted.py", "from rich.console import Console"),
    (the_library_is_a_library, "restore_core/planted.py", "import signal"),
    (the_library_is_a_library, "restore_core/planted.py", "import os\nHOME = os.environ['HOME']"),
    (names_say_something, "restore_core/disk/utils.py", ""),
    (names_say_something, "phd_daemon/common/planted.py", ""),
    (modules_are_short, "restore_core/planted.py", "x = 1\n" * (MAX_MODULE + 1)),
    (functions_are_short, "phd_daemon/planted.py", "def long():\n" + "    x = 1\n" * MAX_FUNCTION),
    (the_worker_is_light, "phd_daemon/worker/attempt.py", "import rich"),
    (the_worker_is_light, "restore_core/errors.py", "import structlog"),
    (top_level_is_the_one_agreed, "setup.py", ""),
    (top_level_is_the_one_agreed, "scripts/tool.py", ""),
]
CHECKS = list(dict.fromkeys(check for check, _, _ in PLANTS))
OF_ALL_MODULES: set[Check] = {no_circles, the_worker_is_light}
"""What these say of a module depends on the others; what the other checks say of a file, they say of it alone."""


def needs_git(check: Check, root: Path) -> None:
    if check is top_level_is_the_one_agreed:
        if shutil.which("git") is None:
            pytest.skip("git is not installed: what lies at the top level cannot be listed")
        if not (root / ".git").exists():
            pytest.skip("this is not a git checkout: what lies at the top level cannot be told from scratch files")


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_house(check: Check) -> None:
    needs_git(check, ROOT)
    assert check(ROOT) == []


@pytest.mark.parametrize(("check", "where", "text"), PLANTS)
def test_planted_violation_is_seen(tmp_path: Path, check: Check, where: str, text: str) -> None:
    needs_git(check, ROOT)
    planted = tmp_path / where
    planted.parent.mkdir(parents=True, exist_ok=True)
    if check in OF_ALL_MODULES:
        for top in PACKAGES:
            shutil.copytree(ROOT / top, tmp_path / top, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    elif (ROOT / where).exists():
        shutil.copy(ROOT / where, planted)
    before = _check_in(tmp_path, check)
    old = planted.read_text() if planted.exists() else ""
    planted.write_text(f"{old}\n{text}\n")
    assert set(_check_in(tmp_path, check)) - set(before)


def _check_in(root: Path, check: Check) -> list[str]:
    if check is top_level_is_the_one_agreed:
        subprocess.run(["git", "init", "-q"], cwd=root, check=True)
        subprocess.run(["git", "add", "."], cwd=root, check=True)
    return check(root)

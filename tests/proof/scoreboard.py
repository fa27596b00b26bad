"""The scoreboard: each row measures one promise, and each row must be able to turn red.

A row runs in a process of its own, so that a planted bug reaches all that the row starts (daemon, workers, `phd`), and
nothing reaches the next row. Planted bugs live in tests/proof/mutants; the program holds no switch for them: a
`sitecustomize` of the harness, on the path of its children alone, replaces a function before the row begins.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.proof import rows

ROOT = Path(__file__).resolve().parents[2]
PLANTED = Path(__file__).resolve().parent / "planted"
HUNG = 900
"""Seconds after which a row is red whatever it is doing."""


class NotRun(Exception):
    """This machine cannot run the row; the text says what it lacks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What a row found: `held` of `of` cases went as they must. The note says the figures that count, and what went wrong first."""

    held: int
    of: int
    note: str = ""

    @property
    def green(self) -> bool:
        """Every case held, and there was one."""
        return self.held == self.of > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One run of one row: an empty folder of its own, a seed, and how much of the full number of cases to do (0 to 1)."""

    folder: Path
    seed: int
    share: float

    def dice(self) -> random.Random:
        """The same numbers for the same seed."""
        return random.Random(self.seed)

    def times(self, full: int) -> int:
        """How many of `full` cases this run does; at least one."""
        return max(1, round(full * self.share))


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One promise. `mutants` are planted bugs, `module:function` below tests.proof.mutants, that must turn it red.

    `mutant_share` is how much of the row is enough to meet them. `short` is the share that `make test` runs; None: none of it.
    """

    id: str
    what: str
    target: str
    run: Callable[[Round], Figure]
    mutants: tuple[str, ...]
    mutant_share: float = 0.1
    short: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A row as run: its figure, or why it did not run, or how it broke down."""

    figure: Figure | None
    not_run: str = ""
    broke: str = ""
    seconds: float = 0.0

    @property
    def green(self) -> bool:
        """It ran, and every case held."""
        return self.figure is not None and self.figure.green


def all_rows(naming: str = "") -> list[Row]:
    """Every row of tests/proof/rows, R1 first; or those of the modules with a word in their text, and no other is imported."""
    found: list[Row] = []
    for module in pkgutil.iter_modules(rows.__path__):
        if naming in Path(rows.__path__[0], f"{module.name}.py").read_text():
            found += getattr(importlib.import_module(f"tests.proof.rows.{module.name}"), "ROWS", ())
    return sorted(found, key=lambda row: int(row.id[1:]))


def in_child(row: Row, *, seed: int, share: float, mutant: str = "") -> Result:
    """Run the row in a process of its own, with a planted bug if one is named."""
    folder = Path(tempfile.mkdtemp(prefix=f"phd-proof-{row.id}-", dir=os.environ.get("PHD_PROOF_FOLDER")))
    path = [str(PLANTED), str(ROOT)] if mutant else [str(ROOT)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "PHD_PROOF_PLANTED": mutant}
    arguments = [
        sys.executable,
        "-m",
        "tests.proof",
        "--row",
        row.id,
        "--seed",
        str(seed),
        "--share",
        str(share),
        "--folder",
        str(folder),
    ]
    began = time.monotonic()
    try:
        child = subprocess.run(arguments, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=HUNG, check=False)
    except subprocess.TimeoutExpired:
        return Result(figure=None, broke=f"hung for {HUNG} s", seconds=time.monotonic() - began)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return _read(child, time.monotonic() - began)


def _read(child: subprocess.CompletedProcess[str], seconds: float) -> Result:
    last = child.stdout.strip().splitlines()[-1:] or [""]
    try:
        said = json.loads(last[0])
    except ValueError:
        tail = " | ".join((child.stdout + child.stderr).strip().splitlines()[-3:])
        return Result(figure=None, broke=f"exit {child.returncode}: {tail}", seconds=seconds)
    if "not_run" in said:
        return Result(figure=None, not_run=said["not_run"], seconds=seconds)
    return Result(figure=Figure(**said), seconds=seconds)


def child_main(row_id: str, *, seed: int, share: float, folder: Path) -> int:
    """The child's side: run one row and print its figure as the last line."""
    row = next(row for row in all_rows(naming=f'"{row_id}"') if row.id == row_id)
    try:
        figure = row.run(Round(folder=folder, seed=seed, share=share))
    except NotRun as why:
        print(json.dumps({"not_run": str(why)}))
        return 0
    print(json.dumps(asdict(figure)))
    return 0


def caught(row: Row, *, seed: int) -> Iterator[tuple[str, Result]]:
    """Each planted bug of a row with what the row made of it. It is caught if the result is not green."""
    for mutant in row.mutants:
        yield mutant, in_child(row, seed=seed, share=row.mutant_share, mutant=mutant)

"""Paths whose accents are stored in another way than they were written."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from restore_core.disk.spelling import as_there, as_there_below
from restore_core.naming import is_below

APART = unicodedata.normalize("NFD", "Büro")
JOINED = unicodedata.normalize("NFC", "Büro")


def test_what_is_there_gives_the_spelling_and_what_is_not_keeps_its_own(tmp_path: Path) -> None:
    (tmp_path / APART).mkdir()
    assert as_there(tmp_path / JOINED / JOINED) == tmp_path / APART / JOINED
    (tmp_path / JOINED).mkdir()
    assert as_there(tmp_path / JOINED) == tmp_path / JOINED, "the one that was written, where both are there"


def test_a_root_is_found_in_either_spelling(tmp_path: Path) -> None:
    root = tmp_path / APART
    (root / "ds" / JOINED).mkdir(parents=True)
    assert as_there_below(tmp_path / JOINED / "ds" / APART / "x", [root]) == root / "ds" / JOINED / "x"


def test_nothing_outside_of_the_roots_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes a control file may name a file system that never answers: the daemon would wait for it."""
    monkeypatch.setattr(os.path, "lexists", lambda _: pytest.fail("it was looked at"))
    assert as_there_below(Path("/hangs") / JOINED, [tmp_path]) == Path("/hangs") / JOINED


def test_below_is_a_matter_of_whole_names() -> None:
    assert is_below(Path(f"/{JOINED}/x"), [Path(f"/{APART}")])
    assert not is_below(Path(f"/{JOINED}"), [Path(f"/{APART}")])
    assert not is_below(Path("/vm/x"), [Path("/v")])

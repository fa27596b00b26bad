"""Paths whose accents are stored in another way than they were written."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from restore_core.disk.spelling import as_there, as_there_below, is_within
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


def test_nothing_behind_a_link_of_a_datastore_is_looked_at(tmp_path: Path) -> None:
    """Whoever may write there could lead the daemon to a file system that never answers."""
    (tmp_path / "elsewhere" / APART).mkdir(parents=True)
    (tmp_path / "roots" / "real").mkdir(parents=True)
    (tmp_path / "roots" / "real" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "roots" / "real" / APART).mkdir()
    (tmp_path / "roots" / "ds").symlink_to("real")
    roots = [tmp_path / "roots"]
    assert as_there_below(roots[0] / "ds" / "link" / JOINED / "x", roots) == roots[0] / "ds" / "link" / JOINED / "x"
    assert as_there_below(roots[0] / "ds" / JOINED / "x", roots) == roots[0] / "ds" / APART / "x", "a datastore may be a link"


def test_within_a_folder_in_either_spelling_but_not_within_another_one_that_looks_the_same(tmp_path: Path) -> None:
    mine = tmp_path / JOINED
    assert is_within(tmp_path / APART / "x", [mine])
    mine.mkdir()
    assert is_within(tmp_path / APART / "x", [mine])
    (tmp_path / APART).mkdir()
    assert not is_within(tmp_path / APART / "x", [mine]), "somebody else's"
    assert is_within(tmp_path / JOINED / "x", [mine])
    assert not is_within(tmp_path / "x", [mine])


def test_below_is_a_matter_of_whole_names() -> None:
    assert is_below(Path(f"/{JOINED}/x"), [Path(f"/{APART}")])
    assert not is_below(Path(f"/{JOINED}"), [Path(f"/{APART}")])
    assert not is_below(Path("/vm/x"), [Path("/v")])

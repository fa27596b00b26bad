"""Whatever is typed, the console stays a console: it ends when the input ends, and the only way out is through the menus."""

from __future__ import annotations

import random

import pytest

from phd_daemon.console import menus, numbered_face
from tests.phd_daemon.console.conftest import Place
from tests.phd_daemon.console.keys import typed

# Not "b": that leads to the log of a job that waits for a daemon, which is followed until ^C.
_ANSWERS = ["", "1", "2", "3", "10", "-1", "9" * 30, "0", "?", "\x1b", "^C", "/CRM", "/zzz", "é", "\udcff", "%00", "..", "a.vmdk"]
_LETTERS = list("aecvfxsrpniodtlhqy")


@pytest.mark.parametrize("seed", range(12))
def test_any_answers(place: Place, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    dice = random.Random(seed)
    monkeypatch.setenv("EDITOR", "true")
    for _ in range(4):
        start = ["e", "c", dice.choice("vfx")] if dice.random() < 0.8 else ["e", "s"]
        # Enter is what leads deep into a flow.
        typed(monkeypatch, *start, *(dice.choice(_ANSWERS + _LETTERS + [""] * 25) for _ in range(40)))
        numbered_face.open_face(lambda face: menus.console(face, place.session))

"""All settings of tests/servers/real_cases.py (the suite tries some), and the conformance suite on proftpd and pure-ftpd."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from restore_core.targets.base import TargetSpec
from restore_core.targets.kinds import make_target
from tests.restore_core.targets.conftest import QUICK, emptied
from tests.restore_core.targets.ftp.test_real_servers import SLICE, check
from tests.restore_core.targets.test_conformance import *  # noqa: F403 - every test of it, on the servers below
from tests.servers import Missing, Served
from tests.servers.real_cases import CASES

del test_names_are_bytes  # noqa: F821 - from the conformance suite


@pytest.fixture(scope="module", params=["proftpd", "pure-ftpd", "pure-ftpd TLS"])
def real(request: pytest.FixtureRequest) -> Iterator[Served]:
    """A server with no settings of its own."""
    with tempfile.TemporaryDirectory(prefix="phd-") as folder:
        try:
            with CASES[request.param].start(Path(folder)) as served:
                yield served
        except Missing as missing:
            pytest.skip(str(missing))


@pytest.fixture
def place(real: Served) -> Iterator[tuple[TargetSpec, Path]]:
    """As that of the suite."""
    yield real.spec, real.store
    emptied(real.store)


@pytest.mark.parametrize("name", ["ä ö", " leading", "semi;colon"])
def test_names_that_these_servers_list(place: tuple[TargetSpec, Path], name: str) -> None:
    """In place of the test above: they list no name that is not UTF-8 (proftpd) or has a control character (pure-ftpd)."""
    (place[1] / "f").mkdir()
    (place[1] / "f" / name).write_bytes(b"abc")
    target = make_target(place[0], QUICK)
    (found,) = target.listing()
    with target.open(found.path) as source:
        assert (found.path, source.read_at(0, 3)) == (f"f/{name}", b"abc")
    target.close()


@pytest.mark.parametrize("name", [name for name in CASES if name not in SLICE])
def test_with_each_other_setting_everything_works_or_one_message_says_why_not(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check(name, tmp_path, monkeypatch, capsys)

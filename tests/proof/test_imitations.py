"""All FTP servers of tests/servers/imitations.py, of which the suite tries some."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.restore_core.targets.ftp.test_imitations import SLICE, check, server
from tests.servers import Served
from tests.servers.imitations import IMITATIONS
from tests.there_and_back import Site

__all__ = ["server"]


@pytest.mark.parametrize("name", [name for name in IMITATIONS if name not in SLICE])
def test_with_each_other_imitation_everything_works_or_one_message_says_why_not(
    name: str, server: tuple[Served, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check(name, server, Site(tmp_path, server[0].spec, monkeypatch, capsys))

"""A job's name that a person gives is a name in the spool, never a path out of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from phd_daemon.operations.follow import known_job
from phd_daemon.spool import requests
from phd_daemon.spool.layout import Spool
from restore_core.errors import UsageError

NAMES = ["../other/crm", "/etc/crm", ".state/crm", ".crm", "", "a\0b"]


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    for folder in ("spool/.state", "other"):
        (tmp_path / folder).mkdir(parents=True)
    for place in ("other/crm", "spool/.state/crm", "spool/.crm"):
        for suffix in (".job", ".log"):
            (tmp_path / (place + suffix)).write_text("x")
    return Spool(folder=tmp_path / "spool")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("action", [requests.hold, requests.release, requests.cancel, requests.retry])
def test_nothing_outside_the_spool_is_renamed(spool: Spool, action: object, name: str) -> None:
    before = sorted(spool.folder.parent.rglob("*"))
    with pytest.raises(UsageError, match="no such job"):
        action(spool.folder, name)  # type: ignore[operator]  # four functions of one shape
    assert sorted(spool.folder.parent.rglob("*")) == before


@pytest.mark.parametrize("name", NAMES)
def test_no_log_outside_the_spool_is_shown(spool: Spool, name: str) -> None:
    with pytest.raises(UsageError, match="no job is named"):
        known_job(spool, name)

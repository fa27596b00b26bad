"""Bugs for R24: a unit that lost a line, and a sandbox that only claims to be one."""

from __future__ import annotations

import re

from phd_daemon.worker import sandbox
from tests.proof import boot


def _without(*keys: str) -> None:
    text = boot.unit_text()
    for key in keys:
        text = re.sub(rf"^{key}=.*\n", "", text, flags=re.MULTILINE)
    setattr(boot, "unit_text", lambda: text)  # noqa: B010  mypy forbids the plain form


def a_unit_that_protects_nothing() -> None:
    _without("ProtectSystem", "ReadWritePaths", "ProtectHome", "RestrictSUIDSGID")


def a_unit_without_a_watchdog() -> None:
    _without("WatchdogSec")


def a_sandbox_that_only_says_so() -> None:
    setattr(sandbox, "confine", lambda _: sandbox.available())  # noqa: B010  mypy forbids the plain form

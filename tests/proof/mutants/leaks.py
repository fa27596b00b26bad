"""Bugs for R25: a password in a message and in an argument, names as they are."""

from __future__ import annotations

from typing import Any

from phd_daemon.cli.commands import daemon
from restore_core import naming
from restore_core.errors import TargetRefused
from restore_core.targets.ftp import login as ftp_login
from restore_core.targets.remote import secret
from restore_core.targets.sftp import login as sftp_login


def errors_tell_the_password() -> None:
    last = [""]
    read, begin = secret.read_password, TargetRefused.__init__

    def remember(path: str, *, target: str) -> str:
        last[0] = read(path, target=target)
        return last[0]

    def tell(self: TargetRefused, message: str, **more: Any) -> None:
        begin(self, f"{message} (with {last[0]})", **more)

    for module in (ftp_login, sftp_login):
        setattr(module, "read_password", remember)  # noqa: B010  mypy forbids the plain form
    setattr(TargetRefused, "__init__", tell)  # noqa: B010  the same


def the_worker_is_told_by_its_command_line() -> None:
    setattr(daemon, "WORKER", (*daemon.WORKER, "--password=canary-5ecret"))  # noqa: B010  mypy forbids the plain form


def names_go_out_raw() -> None:
    setattr(naming, "_UNPRINTABLE", frozenset())  # noqa: B010  mypy forbids the plain form

"""Bugs for R37 and R38: a drill says more than it saw."""

from __future__ import annotations

from phd_daemon.drill import boot, disk_check, watch
from phd_daemon.drill.checkers import Checker, Judged
from phd_daemon.drill.disk_server import ServedDrillDisk
from phd_daemon.drill.verdict import DrillOutcome


def a_silent_guest_has_passed() -> None:
    from dataclasses import replace

    seen = watch.watch

    def always(*args: object, **more: object) -> object:
        found = seen(*args, **more)  # type: ignore[arg-type]  # passed on as they came
        return replace(found, outcome=DrillOutcome.PASSED) if found.outcome is DrillOutcome.NOT_PROVEN else found

    setattr(boot, "watch", always)  # noqa: B010  mypy forbids the plain form


def bad_blocks_do_not_count() -> None:
    setattr(ServedDrillDisk, "bad_blocks", lambda _: [])  # noqa: B010  the same
    setattr(ServedDrillDisk, "other_troubles", lambda _: [])  # noqa: B010  the same


def checkers_are_always_content() -> None:
    def content(_checker: Checker, _code: int | None, _said: str, *, seconds: float) -> Judged:
        del seconds
        return DrillOutcome.PASSED, "clean"

    setattr(disk_check, "judge", content)  # noqa: B010  the same


def the_guest_has_no_disk() -> None:
    from phd_daemon.drill import qemu

    setattr(qemu, "disk_arguments", lambda *_: [])  # noqa: B010  the same

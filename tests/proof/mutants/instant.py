"""Bugs for R34: sessions that lose what their guest wrote."""

from __future__ import annotations

from phd_daemon.operations.instant import (
    qemu_img,
    session_discard,
    session_live,
    session_start,
)
from restore_core.disk.session_record import InstantSession
from restore_core.restore import part, run


def nobody_guards() -> None:
    part.held_destination.__wrapped__.__kwdefaults__["may"] = lambda _destination: None  # type: ignore[attr-defined]
    setattr(run, "refuse_rival", lambda _request: lambda _destination: None)  # noqa: B010  mypy forbids the plain form


def nothing_is_copied() -> None:
    setattr(qemu_img, "commit_overlay", lambda *_: None)  # noqa: B010  the same


def a_used_overlay_is_thrown_away() -> None:
    setattr(session_discard, "refuse_used", lambda *_: None)  # noqa: B010  the same


def the_header_stays() -> None:
    """After QEMU died its guest reads the backup, and later gets what had been copied."""
    setattr(session_live, "name_backing", lambda *_: None)  # noqa: B010  the same


def a_second_start_makes_a_new_overlay() -> None:
    def anew(session: InstantSession) -> None:
        for disk in session.disks:
            disk.overlay.unlink()
            qemu_img.create_overlay(disk.overlay, disk.size, qemu_img.backing_of(session.socket, disk.export))

    setattr(session_start, "_refuse_lost_overlays", anew)  # noqa: B010  the same

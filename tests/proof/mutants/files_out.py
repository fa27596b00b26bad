"""Bugs for R40: links that lead out are made, setuid is kept, and files have other bytes."""

from __future__ import annotations

from collections.abc import Iterator

from restore_core.serve.file_systems import ext
from restore_core.serve.file_systems.ext import _Ext, _Inode
from restore_core.serve.file_systems.guest_file import GuestFacts
from restore_core.serve.taken import FolderWriter


def makes_every_link() -> None:
    setattr(FolderWriter, "_link_refusal", lambda *_: "")  # noqa: B010  mypy forbids the plain form


def keeps_setuid() -> None:
    set_facts = FolderWriter._set_facts

    def with_all_bits(self: FolderWriter, fd: int, facts: GuestFacts, mode: int) -> None:
        import os

        set_facts(self, fd, facts, mode)
        if facts.mode is not None:
            os.fchmod(fd, facts.mode)

    setattr(FolderWriter, "_set_facts", with_all_bits)  # noqa: B010  the same


def forgets_holes() -> None:
    """A hole between two extents is left out."""
    runs = _Ext.runs

    def without_holes(self: _Ext, inode: _Inode) -> Iterator[tuple[int | None, int]]:
        yield from (run for run in runs(self, inode) if run[0] is not None)

    setattr(_Ext, "runs", without_holes)  # noqa: B010  the same


def cuts_lists_of_lists() -> None:
    """Blocks behind the first list of ext3 are holes."""
    listed = _Ext._listed

    def shorter(self: _Ext, inode: _Inode) -> Iterator[tuple[int, int, int | None]]:
        yield from (run for run in listed(self, inode) if run[0] < 12 + self.block_size // 4)

    setattr(_Ext, "_listed", shorter)  # noqa: B010  the same


def cuts_inline_data() -> None:
    """Content in an inode ends at 60 bytes, as other readers end it; zeros follow."""

    def first(_: _Ext, inode: _Inode) -> bytes:
        return inode.block.ljust(inode.size, b"\0")

    setattr(ext._Ext, "inline", first)  # noqa: B010  the same

"""Bugs for R31 and R32: what is served is not what was checked, and damage spreads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from restore_core.archive.full_reader import FullReader
from restore_core.errors import BadArchive, DestinationInUse
from restore_core.serve import unit_source
from restore_core.serve.block_map import ServedUnit
from restore_core.serve.frame_cache import Decoded
from restore_core.serve.full_copies import FullCopies
from restore_core.serve.nbd import own_socket
from restore_core.serve.unit_source import UnitSource
from tests.proof.mutants.bits import _inflate_only


def serves_unchecked_blocks() -> None:
    setattr(unit_source, "decode", _inflate_only)  # noqa: B010  mypy forbids the plain form
    setattr(unit_source, "check_block", lambda *_: None)  # noqa: B010  the same


def asks_no_twin() -> None:
    def first_alone(self: FullCopies) -> Iterator[FullReader]:
        yield self.opened()[0]

    setattr(FullCopies, "each", first_alone)  # noqa: B010  the same


def one_bad_block_spoils_the_disk() -> None:
    """After a bad block nothing is served any more."""
    fetch = UnitSource.fetch

    def until_the_first(self: UnitSource, unit: ServedUnit) -> Decoded:
        found = fetch(self, unit)
        if self.damage.bad:
            raise BadArchive("this disk is damaged")
        return found

    setattr(UnitSource, "fetch", until_the_first)  # noqa: B010  the same


def leaves_the_socket_of_a_dead_server() -> None:
    """A socket that is there already is believed to be somebody's."""

    def refuse(path: Path, folder: int, where: str) -> None:
        del folder
        if path.exists():
            raise DestinationInUse(f"{where}: another server answers at this socket")

    setattr(own_socket, "_clear_way", refuse)  # noqa: B010  the same


def serves_unchecked_zeros() -> None:
    """What cannot be had at once is zero."""
    fetch = UnitSource.fetch

    def some_zeros(self: UnitSource, unit: ServedUnit) -> Decoded:
        found = fetch(self, unit)
        return Decoded(offset=found.offset, data=memoryview(bytes(len(found.data)))) if unit.number % 7 == 6 else found

    setattr(UnitSource, "fetch", some_zeros)  # noqa: B010  the same

"""Which Full a Delta is put together with: all there are of that disk, `*` at those proven to be the one."""

from __future__ import annotations

from dataclasses import dataclass

from phd_daemon.console.check_backup import Checked
from phd_daemon.console.face import Choice, Face, Row
from phd_daemon.console.menus import waited
from phd_daemon.console.session import Session
from phd_daemon.host.catalog import fresh_catalog
from phd_daemon.show import output
from restore_core.archive.delta_reader import DeltaReader
from restore_core.naming import printable
from restore_core.restore.fulls.candidates import Candidate, candidates
from restore_core.targets.base import ArchiveRef

_COLUMNS = ("", "TARGET", "SIZE", "DATE", "FULL", "")
_HELP = """\
A Delta holds what changed since its Full. The one with * was compared with the map in the Delta: its id, its size and some of its
blocks. Every block is checked again when it is restored. With several of them the first is taken, and another when that breaks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FullChoice:
    """The Full a person chose; None leaves it to the restore, which goes on with another copy if one breaks."""

    ref: ArchiveRef | None


def fulls_of(backup: Checked, face: Face, session: Session) -> list[Candidate] | None:
    """The Fulls of a Delta, proven ones first; none for a Full, and for a Delta that needs none of its blocks.

    None: the person did not wait for them.
    """
    if backup.header is None or backup.header.blocks_full == 0:
        return []

    def work() -> list[Candidate]:
        with session.targets.open(backup.entry.ref) as source, fresh_catalog(session.config) as catalog:
            return candidates(DeltaReader(source), catalog, session.targets)

    return waited("Looking for the Full of this Delta, and proving it", work, face, session)


def choose_full(found: list[Candidate], face: Face) -> FullChoice | None:
    """Ask for one of them; the first proven one is proposed."""
    rows = [_row(one, first=index == 0) for index, one in enumerate(found)]
    proven = bool(found) and found[0].proven
    if not proven:
        text = "None is proven: look again when the restore begins"
        rows.append(Row(cells=(text,), value=FullChoice(ref=None), key="a"))
    intro = () if proven else ("No Full of this Delta is there now. A job in the queue is tried again while a target is away.",)
    return face.choose(
        Choice(title="The Full for this Delta", rows=rows, columns=_COLUMNS, intro=intro, help=_HELP, start=0 if proven else None)
    )


def _row(one: Candidate, *, first: bool) -> Row[FullChoice]:
    date = f"{one.time:%Y-%m-%d %H:%M}" if one.time else "-"
    cells = (
        "*" if one.proven else "",
        one.ref.target,
        output.size(one.size),
        date,
        printable(one.ref.name),
        one.why if one.proven else "",
    )
    return Row(cells=cells, value=FullChoice(ref=None if first and one.proven else one.ref), refused="" if one.proven else one.why)

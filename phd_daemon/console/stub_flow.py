"""Creates a STUB: the descriptor that a flat file needs to be used as a VMDK. Flat files without one are listed."""

from __future__ import annotations

import enum
from pathlib import Path

from phd_daemon.console.face import Choice, Face, Page, Question, Row
from phd_daemon.console.session import Session
from phd_daemon.operations import places
from phd_daemon.show import output
from restore_core.naming import printable, unprintable
from restore_core.restore.extras import write_stub

_HELP = """\
A VMDK is two files: NAME-flat.vmdk with the disk, and the small text NAME.vmdk that describes it. Listed are the flat files on the
datastores that have no description, two folders deep. A description that is there is never written over."""


class _Other(enum.Enum):
    PATH = "a file that is not listed"


def stub(face: Face, session: Session) -> None:
    """Choose a flat file; its descriptor is written beside it."""
    found = face.wait("Looking at the datastores", lambda: places.flats_alone(session.config.datastores.roots))
    rows: list[Row[Path | _Other]] = [Row(cells=(printable(str(path)), output.size(size)), value=path) for path, size in found]
    rows.append(Row(cells=("Another flat file", ""), value=_Other.PATH, key="o"))
    title = "Flat files without a STUB"
    while (chosen := face.choose(Choice(title=title, rows=rows, help=_HELP))) is not None:
        flat = _asked(face) if isinstance(chosen, _Other) else chosen
        if flat is not None:
            face.show(Page(title="STUB created", lines=[f"{printable(str(write_stub(flat)))}: written"]))
            return


def _asked(face: Face) -> Path | None:
    def check(text: str) -> str | None:
        return None if text.startswith("/") else "Write the whole path, from / on."

    answer = face.ask(Question(title="Create a STUB", prompt="Path of the flat file (NAME-flat.vmdk)", check=check))
    return None if answer is None else Path(unprintable(answer))

"""Creates a STUB: the descriptor that a flat file needs to be used as a VMDK. Flat files without one are listed."""

from __future__ import annotations

import enum
from pathlib import Path

from phd_daemon.console.face import Choice, Face, Page, Question, Row
from phd_daemon.console.session import Session
from phd_daemon.console.steps import Went, on_if, take
from phd_daemon.operations import places
from phd_daemon.operations.restore import stub_for
from phd_daemon.show import output
from restore_core.naming import printable, unescape_name

_HELP = """\
A VMDK is two files: NAME-flat.vmdk with the disk, and the small text NAME.vmdk that describes it. Listed are the flat files on the
datastores that have no description, two folders deep. A description that is there is never written over."""


class _Other(enum.Enum):
    PATH = "a file that is not listed"


def stub(face: Face, session: Session) -> None:
    """Choose a flat file; its descriptor is written beside it."""
    flow = _Stub(face, face.wait("Looking at the datastores", lambda: places.flats_alone(session.config.datastores.roots)))
    if take([flow.choose_file, flow.type_path]):
        face.show(Page(title="STUB created", lines=[f"{printable(str(stub_for(flow.flat)))}: written"]))


class _Stub:
    """The steps; `flat` is the answer."""

    flat: Path
    listed: bool

    def __init__(self, face: Face, found: list[tuple[Path, int]]) -> None:
        self._face, self._found = face, found

    def choose_file(self) -> Went:
        """One of the flat files without a descriptor, or another."""
        rows: list[Row[Path | _Other]] = [
            Row(cells=(printable(str(path)), output.size(size)), value=path) for path, size in self._found
        ]
        rows.append(Row(cells=("Another flat file", ""), value=_Other.PATH, key="o"))
        chosen = self._face.choose(Choice(title="Flat files without a STUB", rows=rows, help=_HELP))
        self.listed = isinstance(chosen, Path)
        if isinstance(chosen, Path):
            self.flat = chosen
        return on_if(chosen)

    def type_path(self) -> Went:
        """The path of a file that is not listed."""
        if self.listed:
            return Went.PAST

        def check(text: str) -> str | None:
            return None if text.startswith("/") else "Write the whole path, from / on."

        question = Question(title="Create a STUB", prompt="Path of the flat file (NAME-flat.vmdk)", check=check)
        answer = self._face.ask(question)
        self.flat = Path(unescape_name(answer or ""))
        return on_if(answer)

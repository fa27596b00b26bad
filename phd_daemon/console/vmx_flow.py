"""Restores a VMX file only: a Delta that holds one > a folder. It is never edited, and never put over a file that is there."""

from __future__ import annotations

from phd_daemon.console.choose_backup import browse_machines, read_header, summary
from phd_daemon.console.choose_place import FolderSteps
from phd_daemon.console.face import Face
from phd_daemon.console.menus import waited
from phd_daemon.console.restore_flow import put_vmx
from phd_daemon.console.session import Session
from phd_daemon.console.steps import Went, on_if, take
from phd_daemon.operations import places
from phd_daemon.operations.restore import BackupFacts
from restore_core.catalog import CatalogEntry
from restore_core.errors import BadArchive
from restore_core.naming import ArchiveType


def vmx_only(face: Face, session: Session) -> None:
    """Choose a Delta, and where its VMX goes. Fulls hold none and are not listed."""
    browse_machines(face, session, _restore_vmx, only=ArchiveType.DELTA)


def _restore_vmx(entry: CatalogEntry, face: Face, session: Session) -> None:
    flow = _Vmx(entry, face, session)
    if take([flow.confirm_backup, flow.look_at_backup, flow.look_at_datastores, *flow.folder_steps()]):
        put_vmx(entry, flow.folder, face, session)


class _Vmx(FolderSteps):
    """The steps before those to a folder."""

    def __init__(self, entry: CatalogEntry, face: Face, session: Session) -> None:
        super().__init__(face, session)
        self._entry = entry
        self._known: BackupFacts | None = None

    def confirm_backup(self) -> Went:
        """The summary of the backup that was chosen."""
        lines = summary(self._entry, self.session.targets)
        return on_if(self.face.confirm("Restore the VMX file of this backup?", lines, default=True))

    def look_at_backup(self) -> Went:
        """Reads its header, once. Raises `BadArchive` for one that holds no VMX."""
        self._known = self._known or read_header(self._entry, self.face, self.session)
        if self._known is None:
            return Went.BACK
        if not self._known.has_vmx:
            remedy = "The disk was backed up without its VM; make a VMX for it by hand."
            raise BadArchive(f"{self._entry.ref}: it holds no VMX", remedy=remedy)
        self.backup = self._known
        return Went.PAST

    def look_at_datastores(self) -> Went:
        """The datastores there are now."""
        roots = self.session.config.datastores.roots
        stores = waited("Looking at the datastores", lambda: places.datastore_choices(roots), self.face, self.session)
        self.stores = stores or []
        return Went.BACK if stores is None else Went.PAST

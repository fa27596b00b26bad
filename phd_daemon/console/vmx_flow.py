"""Restores a VMX file only: a Delta that holds one > a folder. It is never edited, and never put over a file that is there."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from phd_daemon.console import places
from phd_daemon.console.check_backup import Checked, check, summary
from phd_daemon.console.choose_backup import browse_machines
from phd_daemon.console.choose_place import choose_folder, proposed_folder
from phd_daemon.console.face import Face, Page
from phd_daemon.console.menus import waited
from phd_daemon.console.session import Session
from phd_daemon.host.datastores import readable_record
from restore_core.catalog import CatalogEntry
from restore_core.disk.known_datastores import refuse_unless_known
from restore_core.errors import BadArchive
from restore_core.naming import ArchiveType, printable
from restore_core.restore.extras import restore_vmx


def vmx_only(face: Face, session: Session) -> None:
    """Choose a Delta, and where its VMX goes. Fulls hold none and are not listed."""
    browse_machines(face, session, _restore_vmx, only=ArchiveType.DELTA)


def _restore_vmx(entry: CatalogEntry, face: Face, session: Session) -> None:
    backup: Checked | None = None
    while face.confirm("Restore the VMX file of this backup?", summary(entry, session.targets), default=True):
        backup = backup or check(entry, face, session)
        if backup is not None and _put_it_somewhere(backup, face, session):
            return


def _put_it_somewhere(backup: Checked, face: Face, session: Session) -> bool:
    """Whether it was written; False when the person went back before that."""
    entry = backup.entry
    if not backup.has_vmx:
        raise BadArchive(
            f"{entry.ref}: it holds no VMX", remedy="The disk was backed up without its VM; make a VMX for it by hand."
        )

    def write(folder: Path) -> bool:
        record = readable_record(session.config)
        refuse_unless_known(folder / "any.vmx", record)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        written = restore_vmx(entry.ref, session.targets, folder, record)
        text = f"{printable(str(written))}: check its paths and settings before you use it"
        face.show(Page(title="VMX restored", lines=[text]))
        return True

    stores = waited("Looking at the datastores", lambda: places.datastores(session.config.datastores.roots), face, session)
    return stores is not None and choose_folder(stores, partial(proposed_folder, backup, disk=""), face, session, write)

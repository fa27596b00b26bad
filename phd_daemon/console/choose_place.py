"""The steps to the place of a disk: over one that is on a datastore already, or elsewhere: datastore, folder, name.

A disk that is there already is never proposed; a person who wants to overwrite it says so twice. Enter leads to the default
datastore, a folder called like the machine, and the name that the disk had.
"""

from __future__ import annotations

import enum
import os
from pathlib import Path

from phd_daemon.console.face import Choice, Face, Question, Row
from phd_daemon.console.menus import waited
from phd_daemon.console.session import Session
from phd_daemon.console.steps import Step, Went, on_if
from phd_daemon.operations import places
from phd_daemon.operations.places import Datastore, Place
from phd_daemon.operations.restore import BackupFacts
from phd_daemon.show import output
from restore_core.naming import printable, unescape_name
from restore_core.restore.request import VmxChoice

_PLACE_HELP = """\
The disks of this name on the datastores of this host, two folders deep. One that a virtual machine holds cannot be chosen: power
it off first. A disk that is chosen is refreshed, or replaced, once the backup was verified; until then it stays as it is."""
_STORE_HELP = """\
The datastores are the folders directly below datastores.roots in phd.toml. Jobs of the queue restore to nowhere else; a restore in
the foreground may go to any folder."""


class _Elsewhere(enum.Enum):
    ANOTHER_PLACE = "elsewhere"
    ANOTHER_FOLDER = "a folder that is not listed"


class FolderSteps:
    """The steps to a folder on a datastore, or to any other; the folder may be missing yet. The backup is known before them."""

    backup: BackupFacts
    disk = ""  # the name of the disk that the folder is for, if it is for one
    stores: list[Datastore]
    wanted = True  # False: these steps are passed over
    any_folder = True  # False: only a folder on a datastore
    store: Path | None
    listed: bool
    typed = ""
    folder: Path

    def __init__(self, face: Face, session: Session) -> None:
        self.face, self.session = face, session

    def folder_steps(self) -> list[Step]:
        """The steps in their order."""
        return [self.choose_store, self.choose_folder, self.type_folder]

    def choose_store(self) -> Went:
        """A datastore, or (`store` is None) a folder that is not listed."""
        if not self.wanted:
            return Went.PAST
        rows: list[Row[Datastore | _Elsewhere]] = [
            Row(cells=(printable(str(store.path)), output.size(store.free), output.size(store.size)), value=store)
            for store in self.stores
        ]
        if self.any_folder:
            text = "A folder that is not listed (in the foreground only)"
            rows.append(Row(cells=(text,), value=_Elsewhere.ANOTHER_FOLDER, key="o"))
        default = self.session.config.replication.default_datastore
        start = next((index for index, store in enumerate(self.stores) if store.path == default), 0)
        columns = ("DATASTORE", "FREE", "SIZE") if self.stores else ()
        taken = self.face.choose(Choice(title="Datastore", rows=rows, columns=columns, help=_STORE_HELP, start=start))
        self.store = taken.path if isinstance(taken, Datastore) else None
        self.listed = False
        return on_if(taken)

    def choose_folder(self) -> Went:
        """A folder on that datastore; one for the machine is proposed, whether it is there or not."""
        if not self.wanted or self.store is None:
            return Went.PAST
        machine, there = self.backup.entry.folder, places.folders(self.store)
        proposed = places.folder_for(self.store, machine.vm, machine.uuid, self.disk)
        rows: list[Row[str | _Elsewhere]] = []
        if places.wrong_folder(self.store, proposed) is None:
            rows.append(Row(cells=(printable(proposed), "" if proposed in there else "new"), value=proposed))
        rows += [Row(cells=(printable(name), ""), value=name) for name in there if name != proposed]
        rows.append(Row(cells=("The datastore itself", ""), value="", key="d"))
        rows.append(Row(cells=("Another folder", ""), value=_Elsewhere.ANOTHER_FOLDER, key="n"))
        taken = self.face.choose(Choice(title=_folder_title(self.store), rows=rows, start=0))
        self.listed = isinstance(taken, str)
        if isinstance(taken, str):
            self.folder = self.store / taken
        return Went.BACK if taken is None else Went.ON

    def type_folder(self) -> Went:
        """The name of a folder on the datastore, or the whole path of a folder elsewhere."""
        if not self.wanted or self.listed:
            return Went.PAST
        store = self.store
        if store is None:
            question = Question(title="Another folder", prompt="Path of the folder", suggestion=self.typed, check=places.wrong_path)
        else:
            question = Question(
                title=_folder_title(store),
                prompt="Name of the folder",
                suggestion=self.typed,
                check=lambda text: places.wrong_folder(store, unescape_name(text)),
            )
        self.typed = self.face.ask(question) or ""
        self.folder = (store or Path()) / os.path.normpath(unescape_name(self.typed))
        return on_if(self.typed)


class PlaceSteps(FolderSteps):
    """The steps to the disk that is written. `path` and `overwrite` are the answer."""

    found: list[Place]
    taken: Place | None
    name = ""
    path: Path
    overwrite: bool

    def place_steps(self) -> list[Step]:
        """The steps in their order."""
        return [self.look_at_datastores, self.choose_place, *self.folder_steps(), self.type_name, self.confirm_overwriting]

    def look_at_datastores(self) -> Went:
        """The datastores, and the disks of this name on them; asks nothing."""
        roots = self.session.config.datastores.roots
        self.disk = self.backup.disk_name

        def work() -> tuple[list[Datastore], list[Place]]:
            stores = places.datastore_choices(roots)
            return stores, places.existing(stores, self.disk, roots)

        looked = waited("Looking at the datastores", work, self.face, self.session)
        if looked is None:
            return Went.BACK
        self.stores, self.found = looked
        return Went.PAST

    def choose_place(self) -> Went:
        """A disk of this name that is there already, or elsewhere."""
        rows: list[Row[Place | _Elsewhere]] = [_place_row(place) for place in self.found]
        rows.append(Row(cells=("Elsewhere: choose datastore, folder and name",), value=_Elsewhere.ANOTHER_PLACE, key="e"))
        columns = ("IT LIES AT", "SIZE", "FREE THERE", "") if self.found else ()
        title, start = f"Where to restore {printable(self.disk)}", len(rows) - 1
        taken = self.face.choose(Choice(title=title, rows=rows, columns=columns, help=_PLACE_HELP, start=start))
        self.wanted = not isinstance(taken, Place)
        if isinstance(taken, Place):
            self.path = taken.path
        return on_if(taken)

    def type_name(self) -> Went:
        """The name of the VMDK: known of a Delta, guessed of a Full."""
        if not self.wanted:
            return Went.PAST
        folder, suggested = self.folder, printable(self.disk)
        confined = self._confined(folder)
        knows = "the Delta knows this name" if self.backup.header else "a guess, from the name of the backup"

        def check(text: str) -> str | None:
            name = unescape_name(text)
            return places.wrong_name(folder, name, confined=confined) or places.in_use(folder / name)

        while True:
            question = Question(
                title=f"Name of the VMDK in {printable(str(folder))}",
                prompt="Name",
                suggestion=self.name or suggested,
                intro=(f"Suggested is {suggested}: {knows}.",),
                help="NAME.vmdk makes a descriptor and NAME-flat.vmdk. Another suffix makes a raw image alone.",
                check=check,
            )
            self.name = self.face.ask(question) or ""
            self.path = folder / unescape_name(self.name)
            if not self.name or places.ends_like_a_disk(self.path) or self._raw_is_meant():
                return on_if(self.name)

    def _raw_is_meant(self) -> bool:
        name = printable(self.path.name)
        lines = [f"{name} does not end in .vmdk: this makes a raw image, without the descriptor a VM needs."]
        return bool(self.face.confirm("Make a raw image?", lines, default=False))

    def confirm_overwriting(self) -> Went:
        """Asked where a disk is there already; it is never overwritten without this."""
        if self.wanted and not places.is_there(self.path):
            self.overwrite = False
            return Went.PAST
        lines = [
            f"{printable(str(self.path))} is there already.",
            "It will be refreshed or replaced. What it holds now is lost then.",
        ]
        self.overwrite = bool(self.face.confirm("Write over this disk?", lines, default=False))
        return on_if(self.overwrite)

    @property
    def on_datastore(self) -> bool:
        """Whether the disk goes to a datastore: jobs of the queue restore to nowhere else."""
        return self._confined(self.path)

    def _confined(self, path: Path) -> bool:
        return any(path.is_relative_to(store.path) for store in self.stores)


def _folder_title(store: Path) -> str:
    return f"Folder on {printable(str(store))}"


def _place_row(place: Place) -> Row[Place | _Elsewhere]:
    size, free = output.size(place.size), output.size(place.store.free)
    cells = (printable(str(place.path)), size, free, "" if place.refused else "not in use")
    return Row(cells=cells, value=place, refused=place.refused)


def ask_for_vmx(face: Face, beside: str) -> tuple[VmxChoice, Went]:
    """Asks whether the VMX is restored, too; it is put `beside` a disk or disks, in words."""
    wanted = face.confirm("Restore the VMX file also, unedited?", [f"It is put beside {beside}."], default=False)
    return VmxChoice.AS_IS if wanted else VmxChoice.NONE, Went.BACK if wanted is None else Went.ON

"""Where the disk goes: over one that lies on a datastore already, or elsewhere: datastore > folder > name.

What stands there already is never proposed; whoever wants to write over it says so, twice. Enter leads to the default
datastore, a folder called like the machine, and the name that the disk had.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from phd_daemon.console import places
from phd_daemon.console.check_backup import Checked
from phd_daemon.console.face import Choice, Face, Question, Row
from phd_daemon.console.menus import waited
from phd_daemon.console.places import Datastore, Place
from phd_daemon.console.session import Session
from phd_daemon.show import output
from restore_core.disk.locks import holder_of
from restore_core.errors import PhdError
from restore_core.naming import printable, unprintable

_PLACE_HELP = """\
The disks of this name on the datastores of this host, two folders deep. One that a virtual machine holds cannot be chosen: power
it off first. A disk that is chosen is refreshed, or replaced, once the backup was verified; until then it stays as it is."""
_STORE_HELP = """\
The datastores are the folders directly below datastores.roots in phd.toml. Jobs of the queue restore to nowhere else; a restore in
the foreground may go to any folder."""


_SUFFIXES = (".vmdk", ".img", ".raw", ".bin", ".dd")


class _Elsewhere(enum.Enum):
    ANOTHER_PLACE = "elsewhere"
    ANOTHER_FOLDER = "a folder that is not listed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The disk to write. `overwrite`: something lies there, and the person said that it may be changed."""

    path: Path
    overwrite: bool
    on_datastore: bool


Then = Callable[[Chosen], bool]
"""What is done with the place: True when it was used, False when the person came back from there."""


def choose_place(backup: Checked, face: Face, session: Session, then: Then) -> bool:
    """Ask until a place is chosen that can take the disk, and `then` says that it was used; False to go back."""
    roots, name = session.config.datastores.roots, backup.disk_name

    def work() -> tuple[list[Datastore], list[Place]]:
        stores = places.datastores(roots)
        return stores, places.existing(stores, name, roots)

    looked = waited("Looking at the datastores", work, face, session)
    if looked is None:
        return False
    stores, found = looked
    rows: list[Row[Place | _Elsewhere]] = [_place_row(place) for place in found]
    rows.append(Row(cells=("Elsewhere: choose datastore, folder and name",), value=_Elsewhere.ANOTHER_PLACE, key="e"))
    choice = Choice(
        title=f"Where to restore {printable(name)}",
        rows=rows,
        columns=("IT LIES AT", "SIZE", "FREE THERE", "") if found else (),
        help=_PLACE_HELP,
        start=len(rows) - 1,
    )
    while (taken := face.choose(choice)) is not None:
        if isinstance(taken, Place):
            used = _over(taken.path, face, then, on_datastore=True)
        else:
            used = _elsewhere(stores, backup, face, session, then)
        if used:
            return True
    return False


def choose_folder(
    stores: list[Datastore], propose: Callable[[Path], str], face: Face, session: Session, then: Callable[[Path], bool]
) -> bool:
    """A folder on a datastore, or any other, which may be missing yet, for `then`; False to go back."""
    while (store := _choose_store(stores, face, session)) is not None:
        used = (
            _other_folder(face, then)
            if isinstance(store, _Elsewhere)
            else _choose_folder(store.path, propose(store.path), face, then)
        )
        if used:
            return True
    return False


def _elsewhere(stores: list[Datastore], backup: Checked, face: Face, session: Session, then: Then) -> bool:
    def in_folder(folder: Path) -> bool:
        on_datastore = any(folder.is_relative_to(store.path) for store in stores)
        return _choose_name(folder, backup, face, then, on_datastore=on_datastore)

    return choose_folder(stores, partial(proposed_folder, backup), face, session, in_folder)


def proposed_folder(backup: Checked, store: Path, *, disk: str | None = None) -> str:
    """The name of a folder on a datastore for the disk of this backup; for a VMX, which goes beside its disks, `disk` is empty."""
    folder = backup.entry.folder
    return places.folder_for(store, folder.vm, folder.uuid, backup.disk_name if disk is None else disk)


def _choose_store(stores: list[Datastore], face: Face, session: Session) -> Datastore | _Elsewhere | None:
    rows: list[Row[Datastore | _Elsewhere]] = [
        Row(cells=(printable(str(store.path)), output.size(store.free), output.size(store.size)), value=store) for store in stores
    ]
    rows.append(Row(cells=("A folder that is not listed (in the foreground only)",), value=_Elsewhere.ANOTHER_FOLDER, key="o"))
    default = session.config.replication.default_datastore
    start = next((index for index, store in enumerate(stores) if store.path == default), 0)
    columns = ("DATASTORE", "FREE", "SIZE") if stores else ()
    return face.choose(Choice(title="Datastore", rows=rows, columns=columns, help=_STORE_HELP, start=start))


def _choose_folder(store: Path, proposed: str, face: Face, then: Callable[[Path], bool]) -> bool:
    """A folder on that datastore, one for the machine proposed, whether it is there or not."""
    there = places.folders(store)
    rows: list[Row[str | _Elsewhere]] = []
    if places.wrong_folder(store, proposed) is None:
        rows.append(Row(cells=(printable(proposed), "" if proposed in there else "new"), value=proposed))
    rows += [Row(cells=(printable(name), ""), value=name) for name in there if name != proposed]
    rows.append(Row(cells=("The datastore itself", ""), value="", key="d"))
    rows.append(Row(cells=("Another folder", ""), value=_Elsewhere.ANOTHER_FOLDER, key="n"))
    title = f"Folder on {printable(str(store))}"
    while (taken := face.choose(Choice(title=title, rows=rows, start=0))) is not None:
        if then(store / taken) if isinstance(taken, str) else _new_folder(store, title, face, then):
            return True
    return False


def _new_folder(store: Path, title: str, face: Face, then: Callable[[Path], bool]) -> bool:
    question = Question(title=title, prompt="Name of the folder", check=lambda text: places.wrong_folder(store, unprintable(text)))
    while (name := face.ask(question)) is not None:
        if then(store / unprintable(name)):
            return True
        question = replace(question, suggestion=name)
    return False


def _other_folder(face: Face, then: Callable[[Path], bool]) -> bool:
    def check(text: str) -> str | None:
        if not text.startswith("/") or ".." in Path(text).parts:
            return "Write the whole path, from / on, without '..'."
        return None

    question = Question(title="Another folder", prompt="Path of the folder", check=check)
    while (answer := face.ask(question)) is not None:
        if then(Path(os.path.normpath(unprintable(answer)))):
            return True
        question = replace(question, suggestion=answer)
    return False


def _choose_name(folder: Path, backup: Checked, face: Face, then: Then, *, on_datastore: bool) -> bool:
    """The name of the VMDK: known of a Delta, guessed of a Full. Asked again when a disk there shall stay as it is."""
    knows = "the Delta knows this name" if backup.header else "a guess, from the name of the backup"
    question = Question(
        title=f"Name of the VMDK in {printable(str(folder))}",
        prompt="Name",
        suggestion=printable(backup.disk_name),
        intro=(f"Suggested is {printable(backup.disk_name)}: {knows}.",),
        help="NAME.vmdk makes a descriptor and NAME-flat.vmdk. Another suffix makes a raw image alone.",
        check=lambda text: places.wrong_name(folder, unprintable(text), confined=on_datastore) or _held(folder / unprintable(text)),
    )
    while (answer := face.ask(question)) is not None:
        path = folder / unprintable(answer)
        question = replace(question, suggestion=answer)
        if path.suffix.lower() not in _SUFFIXES and not _raw_is_meant(path, face):
            continue
        if places.is_there(path):
            used = _over(path, face, then, on_datastore=on_datastore)
        else:
            used = then(Chosen(path=path, overwrite=False, on_datastore=on_datastore))
        if used:
            return True
    return False


def _raw_is_meant(path: Path, face: Face) -> bool:
    lines = [f"{printable(path.name)} does not end in .vmdk: this makes a raw image, without the descriptor a VM needs."]
    return bool(face.confirm("Make a raw image?", lines, default=False))


def _held(path: Path) -> str | None:
    """By whom a disk is in use."""
    try:
        holder = holder_of(path)
    except PhdError as error:
        return str(error)
    return f"{printable(path.name)} is in use: {holder}" if holder else None


def _over(path: Path, face: Face, then: Then, *, on_datastore: bool) -> bool:
    lines = [f"{printable(str(path))} is there already.", "It will be refreshed or replaced. What it holds now is lost then."]
    while face.confirm("Write over this disk?", lines, default=False):
        if then(Chosen(path=path, overwrite=True, on_datastore=on_datastore)):
            return True
    return False


def _place_row(place: Place) -> Row[Place | _Elsewhere]:
    cells = (
        printable(str(place.path)),
        output.size(place.size),
        output.size(place.store.free),
        "" if place.refused else "not in use",
    )
    return Row(cells=cells, value=place, refused=place.refused)

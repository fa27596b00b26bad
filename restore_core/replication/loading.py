"""Makes the lines that `phd rules load` appends to vmdks.auto: one for each disk of the catalog that no line names yet."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

from restore_core.catalog import CatalogEntry
from restore_core.naming import restored_name, searchable
from restore_core.replication.rules import Rule, names_disk, parse_rules, render_rule

_OFF = "#"


def new_lines(text: bytes, entries: Iterable[CatalogEntry], *, datastore: Path, active: bool) -> list[str]:
    """Returns the lines to append, ordered by VM and disk; commented out unless `active`. Commented lines name their disks, too."""
    known = _named(text)
    taken = {searchable(str(rule.destination)) for rule in known}
    by_name: dict[tuple[str, str], list[Rule]] = {}
    for rule in known:
        by_name.setdefault(rule.names, []).append(rule)
    disks = {entry.disk_key: (entry.folder.vm, entry.folder.uuid, entry.name.scsi, entry.name.disk) for entry in entries}
    lines = []
    for key, disk in sorted(disks.items(), key=lambda found: (found[0].vm, found[0].uuid, *found[1][2:])):
        vm, uuid, scsi, vmdk = disk
        if any(names_disk(rule, vm=vm, uuid=uuid, scsi=scsi, vmdk=vmdk) for rule in by_name.get((key.vm, key.disk), ())):
            continue
        destination = next(path for path in _places(datastore, *disk) if searchable(str(path)) not in taken)
        taken.add(searchable(str(destination)))
        lines.append(("" if active else _OFF) + render_rule(vm=vm, uuid=uuid, scsi=scsi, vmdk=vmdk, destination=destination))
    return lines


def _named(text: bytes) -> list[Rule]:
    """Returns the rules of the file, also those commented out with `#` as we do it. `# RESTORE:` is an example in prose."""
    return [rule for line in text.split(b"\n") for rule in parse_rules(line.lstrip(b"#"), roots=None).rules]


def _places(datastore: Path, vm: str, uuid: str | None, scsi: str, vmdk: str) -> Iterator[Path]:
    """Yields `DATASTORE/VM/VMDK`, the same with the SCSI id, with the UUID too, then numbered: the first free one is taken."""
    folder, disk = _component(vm), restored_name(_component(vmdk))
    yield datastore / folder / disk
    yield datastore / folder / f"{scsi}-{disk}"
    for number in itertools.count(1):
        yield datastore / f"{folder}.{uuid or 'v2'}{'' if number == 1 else f'.{number}'}" / f"{scsi}-{disk}"


def _component(name: str) -> str:
    """Returns a name from a target as the name of one folder."""
    return name.replace("/", "_").lstrip(".") or "_"  # `render_rule` escapes it, once

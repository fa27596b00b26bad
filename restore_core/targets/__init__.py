"""Backup targets: places where archives lie as plain files. `base` holds the contract, `kinds` the table of what there is."""

from __future__ import annotations

from contextlib import suppress

from restore_core.errors import ArchiveAbsent
from restore_core.naming import comparable, other_spellings, unescape_name
from restore_core.targets.base import DEFAULT_LIMITS, LOCAL, ArchiveRef, ByteSource, ServerLimits, Stop, Target, TargetSpec
from restore_core.targets.kinds import make_target
from restore_core.targets.local import open_local_file

__all__ = ["TargetSet", "parse_ref"]


class TargetSet:
    """The configured targets of one process, each opened when it is first used. Not shared between processes.

    `stop` is called while a server is waited for. Give one only for work that must end at once.
    """

    def __init__(self, specs: tuple[TargetSpec, ...], limits: ServerLimits = DEFAULT_LIMITS, *, stop: Stop | None = None) -> None:
        self.specs = {spec.name: spec for spec in specs}
        self.limits = limits
        self.stop = stop
        self._open: dict[str, Target] = {}

    def __getitem__(self, name: str) -> Target:
        if name not in self._open:
            if name not in self.specs:
                known = ", ".join(sorted(self.specs)) or "none"
                raise ArchiveAbsent(f"no target is named {name!r}; configured: {known}", remedy="Add [targets.NAME] to phd.toml.")
            self._open[name] = make_target(self.specs[name], self.limits, self.stop)
        return self._open[name]

    def open(self, ref: ArchiveRef) -> ByteSource:
        """Opens the archive behind a reference, also where its accents are stored in another spelling; its `ref` is as stored."""
        if ref.target == LOCAL:
            return open_local_file(ref.path)
        target = self[ref.target]
        try:
            return target.open(ref.path)
        except ArchiveAbsent:
            for path in other_spellings(ref.path):
                with suppress(ArchiveAbsent):
                    return target.open(path)
            wanted = comparable(ref.path)
            if wanted.isascii():
                raise
            # Some servers and copies have both spellings in one name: only a listing shows it.
            stored = next((one.path for one in target.listing([]) if comparable(one.path) == wanted), None)
            if stored is None:
                raise
            return target.open(stored)

    def close(self) -> None:
        """Closes every target."""
        for target in self._open.values():
            target.close()
        self._open.clear()


def parse_ref(text: str) -> ArchiveRef:
    """Reads `NAME:path` or `/path`, with `%HH` for bytes that cannot be printed; `ValueError` for anything else."""
    if text.startswith("/"):
        return ArchiveRef(target=LOCAL, path=unescape_name(text))
    name, colon, path = text.partition(":")
    if not colon or not path or not name or path.startswith("/"):
        raise ValueError(f"{text!r} is neither NAME:folder/file nor a path that starts with /")
    return ArchiveRef(target=name, path=unescape_name(path))

"""The installed `phd` as a person would run it: a configuration of its own, targets that are folders, commands by name."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from tests.bench.measure import ContenderFailed, empty_folder, prepare

UUID = "564d122a-0ed7-3b92-2f46-aee9456b2074"
WHO = ("--vm", "bench", "--uuid", UUID, "--scsi", "00")


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """`folder` holds phd.toml, one folder a target, the spool and the state."""

    folder: Path

    @property
    def program(self) -> str:
        """The command beside the Python that runs this."""
        return str(Path(sys.executable).with_name("phd"))

    @property
    def spool(self) -> Path:
        return self.folder / "restore"

    @property
    def datastore(self) -> Path:
        return self.folder / "volumes" / "DS1"

    def target(self, name: str) -> Path:
        return self.folder / "targets" / name

    def command(self, *arguments: str) -> list[str]:
        head, *rest = arguments
        return [self.program, head, "--config", str(self.folder / "phd.toml"), *rest]

    def backup(self, disk: Path, target: str, *options: str) -> list[str]:
        return self.command("backup", str(disk), "--target", target, *WHO, *options)


def install(folder: Path, *targets: str) -> Installed:
    """Write the configuration. Replication is off: nothing but what is measured shall run."""
    phd = Installed(folder=folder)
    for path in (phd.spool, phd.datastore, folder / "state", *map(phd.target, targets)):
        path.mkdir(parents=True, exist_ok=True)
    phd.spool.chmod(0o700)
    named = "".join(f'[targets.{name}]\nurl = "file://{phd.target(name)}"\n' for name in targets)
    (folder / "phd.toml").write_text(
        f'state_dir = "{folder / "state"}"\n'
        f'[queue]\nspool = "{phd.spool}"\n'
        f'[replication]\nenabled = false\nrules = "{folder / "vmdks.auto"}"\nledger = "{folder / "restored.log"}"\n'
        f'[datastores]\nroots = ["{phd.datastore.parent}"]\n'
        f"{named}"
    )
    return phd


def empty_target(phd: Installed, target: str) -> None:
    """Empties a target, and accepts that: one that held archives and holds none is refused until a person says that it is right."""
    empty_folder(phd.target(target))
    prepare(phd.command("targets", "accept", target, "--yes"))


def only_full(target: Path) -> Path:
    """The one Full below a target."""
    return _only(target, "*.gz-*.phd")


def newest_delta(target: Path) -> Path:
    """The Delta that was made last."""
    deltas = sorted(target.rglob("*.delta-*.phd"), key=lambda path: path.stat().st_mtime_ns)
    if not deltas:
        raise ContenderFailed(f"no Delta below {target}")
    return deltas[-1]


def two_days(phd: Installed, target: str, monday: Path, tuesday: Path) -> None:
    """A Full of the first disk and a Delta of the second, made anew: a run measures the code of that run."""
    print("making the Full and the Delta", flush=True)
    empty_target(phd, target)
    prepare(phd.backup(monday, target, "--full", "--at", "2026-01-05T03:00"))
    prepare(phd.backup(tuesday, target, "--at", "2026-01-06T03:00"))


def _only(folder: Path, pattern: str) -> Path:
    found = [*folder.rglob(pattern)]
    if len(found) != 1:
        raise ContenderFailed(f"{len(found)} files {pattern} below {folder}, expected one")
    return found[0]

"""What every operation begins with: the settings, the spool, and how a person names a target, an archive or a disk."""

from __future__ import annotations

import errno
import gc
import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from phd_daemon.config.toml_text import did_you_mean
from phd_daemon.spool.layout import Spool, as_stored
from restore_core.errors import ArchiveAbsent, ConfigurationError, UsageError
from restore_core.naming import printable, unescape_name
from restore_core.targets import parse_ref
from restore_core.targets.base import LOCAL, ArchiveRef

if TYPE_CHECKING:
    from phd_daemon.config.model import Config

UNIT = "phd-daemon.service"
BOOTED = Path("/run/systemd/system")
"""This folder exists when the machine was booted with systemd (sd_booted(3))."""
_UNIT_FOLDERS = ("/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system")
_NAMED = re.compile(r"[a-z][a-z0-9_-]*:")


def read_config(path: Path | None) -> Config:
    """Returns the settings. pydantic is imported only here; the garbage collector skips all that was imported until now."""
    from phd_daemon.config.load import load_config

    settings = load_config(path)
    gc.freeze()
    gc.enable()
    return settings


def spool_of(config: Config) -> Spool:
    """Returns the spool of this installation. Raises `ConfigurationError` when its folder is missing."""
    folder = config.queue.spool
    if not folder.is_dir():
        name = printable(str(folder))
        remedy = (
            f"Make it (install -d -m 0700 {name}), or name another one in phd.toml. Other settings: --config FILE, or $PHD_CONFIG."
        )
        raise ConfigurationError(f"queue.spool: {name}: there is no such folder ({settings_in_use(config)})", remedy=remedy)
    return Spool(folder=folder)


def settings_in_use(config: Config) -> str:
    """Returns which settings these are, for whoever looks at the wrong ones."""
    if config.source is None:
        from phd_daemon.config.model import DEFAULT_PATH

        return f"there is no {DEFAULT_PATH}: the defaults are used"
    return f"settings: {printable(str(config.source))}"


def how_to_start() -> str:
    """Returns the command that starts the daemon on this machine: systemctl only where systemd runs and has the unit."""
    return "systemctl start phd-daemon" if has_unit(UNIT) and BOOTED.is_dir() else "phd daemon --detach"


def has_unit(name: str) -> bool:
    """Whether systemd is given a unit of this name here."""
    return any((Path(folder) / name).exists() for folder in _UNIT_FOLDERS)


def receipts_folder(config: Config) -> Path | None:
    """Returns the daemon's folder for the records of restores; None if it is missing or this user may not write it."""
    folder = Spool(folder=config.queue.spool).receipts
    return folder if os.access(folder, os.W_OK | os.X_OK) else None


def made_receipts_folder(config: Config) -> tuple[Path | None, str]:
    """Returns the same for a restore, which makes the folder if no daemon has run yet; and why it is None, in words for people."""
    from phd_daemon.spool.safety import make_rooms

    spool = Spool(folder=config.queue.spool)
    try:
        make_rooms(spool)
    except OSError as error:
        why = error.strerror or str(error)
    except ConfigurationError as error:
        why = error.message
    else:
        why = os.strerror(errno.EACCES)
    if (folder := receipts_folder(config)) is not None:
        return folder, ""
    return None, (
        f"this restore is not recorded in {printable(str(spool.receipts))}: {why}. Without a record the next refresh reads the "
        "whole disk, and a rule calls it 'diverged' and leaves it alone. The user that the daemon runs as can record it"
    )


def known_target(name: str, targets: Collection[str]) -> str:
    """Returns `name` if it is the name of a target. Raises `UsageError` if it is not."""
    if name not in targets:
        known = ", ".join(map(printable, sorted(targets))) or "none"
        raise UsageError(
            f"no target is named '{printable(name)}'{did_you_mean(name, targets)}; configured: {known}",
            remedy="Name one of [targets.NAME] in phd.toml.",
        )
    return name


def archive_ref(text: str, targets: Collection[str], *, must_exist: bool = True) -> ArchiveRef:
    """Returns the archive that a person named: `NAME:folder/file` on a target, or the path of a local file.

    A relative path begins at the working folder. Raises `UsageError` for a target or a form that is not known, `ArchiveAbsent` for
    a local file that is not there if it `must_exist`.
    """
    if not text:
        raise UsageError("the archive has no name: '' was given", remedy="Write NAME:FOLDER/FILE, as 'phd backups' prints it.")
    if _NAMED.match(text) and (text.partition(":")[0] in targets or not os.path.lexists(text)):
        known_target(text.partition(":")[0], targets)
        try:
            return parse_ref(text)
        except ValueError as error:
            raise UsageError(str(error), remedy="Write it as 'phd backups' prints it.") from error
    path = os.path.join(os.getcwd(), text)
    if not text.isascii() and not os.path.lexists(path):
        from restore_core.disk.spelling import as_there

        path = str(as_there(Path(path)))
    ref = ArchiveRef(target=LOCAL, path=path)
    if must_exist:
        refuse_missing(ref, targets)
    return ref


def refuse_missing(ref: ArchiveRef, targets: Collection[str]) -> None:
    """Raises `ArchiveAbsent` for a file of this machine that is not there: mostly the target's name was left out."""
    if ref.target != LOCAL:
        return
    try:
        os.stat(ref.path)
    except (FileNotFoundError, NotADirectoryError) as error:
        folder, name = os.path.split(ref.path)
        example = f"{next(iter(targets), 'TARGET')}:{printable(os.path.join(os.path.basename(folder), name))}"
        raise ArchiveAbsent(
            f"{printable(ref.path)}: {error.strerror}",
            remedy=f"That is a file of this machine. One on a target is written {example}; 'phd backups' lists them.",
        ) from None
    except OSError:
        pass  # who opens it says so


def destination(text: str) -> Path:
    """Returns the absolute path of the disk to write; a relative one begins at the working folder. Raises `UsageError`.

    Accents are spelled as they are on the disk.
    """
    from restore_core.disk.spelling import as_there  # most commands write no disk

    path = as_there(Path(os.path.abspath(text)))
    if not text:
        raise UsageError("the disk has no name: --to '' was given", remedy="Name the disk: --to FOLDER/NAME.vmdk.")
    if text.endswith("/") or path.is_dir():
        raise UsageError(f"{printable(text)} is a folder", remedy=f"Name the disk in it: {printable(text.rstrip('/'))}/NAME.vmdk.")
    return path


def job_named(config: Config, text: str) -> str:
    """Returns the name of the job that a person named as it is shown, or in another spelling of its accents."""
    return as_stored(spool_of(config).folder, unescape_name(text))


def prepare_process() -> None:
    """Lets this process decode fast and leave no core file, which would hold pieces of disks."""
    from phd_daemon.host.process import forbid_core_dumps, tune_malloc

    forbid_core_dumps()
    tune_malloc()

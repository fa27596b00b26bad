"""The keys of phd.toml with their defaults, and `Config`, the settings as the rest of the program uses them.

Nothing here reads a file. Durations are in seconds, rates in bytes a second; all objects are frozen.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

from phd_daemon.config.values import (
    AbsolutePath,
    BytesPerSecond,
    Mode,
    PathList,
    RootList,
    Seconds,
    Submitter,
    SubmitterList,
    TargetName,
    TargetUrl,
    Timezone,
)
from restore_core.targets.base import TargetSpec
from restore_core.targets.kinds import KINDS, wrong_options

DEFAULT_PATH = Path("/etc/phd/phd.toml")
_CREDENTIALS = "CREDENTIALS_DIRECTORY"
"""Names the folder in which systemd puts the secrets of LoadCredential= for this service (systemd.exec(5))."""


class _Table(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class SubmitterLimits(_Table):
    """`[submitters.NAME]`: what one submitter may do. No `destinations` means all datastores."""

    destinations: PathList = ()
    overwrite: bool = False


class QueueTable(_Table):
    """`[queue]` as it is in the file."""

    enabled: bool = True
    spool: AbsolutePath = Path("/etc/phd/restore")
    workers: Annotated[int, Field(ge=1, le=4)] = 1
    purge_after: Seconds = 30 * 86400
    hung_after: Annotated[Seconds, Field(ge=60)] = 900
    submitters: SubmitterList = ("root",)


class Queue(QueueTable):
    """`[queue]`, with the limits of `[submitters.NAME]` by name; a name is a user or `@group`."""

    submitter_limits: Mapping[str, SubmitterLimits] = {}


class Replication(_Table):
    """`[replication]`."""

    enabled: bool = True
    every: Seconds = 3600
    rules: AbsolutePath = Path("/etc/phd/vmdks.auto")
    ledger: AbsolutePath = Path("/etc/phd/restored.log")
    default_datastore: AbsolutePath = Path("/vmfs/volumes/ISCSI02")
    storm_limit: Annotated[int, Field(ge=1)] = 10
    fall_back_to_older: bool = False


class Index(_Table):
    """`[index]`."""

    max_age: Seconds = 5 * 3600


class Drills(_Table):
    """`[drills]`."""

    warn_after: Seconds = 35 * 86400


class Datastores(_Table):
    """`[datastores]`; a datastore is a direct child of a root."""

    roots: RootList = (Path("/vmfs/volumes"),)
    mode: Mode = 0o600


class Backup(_Table):
    """`[backup]`."""

    staging_dir: AbsolutePath = Path("/var/tmp")  # noqa: S108  has space for big files, which survive a reboot


class TargetTable(_Table):
    """`[targets.NAME]`; only `url` has no default."""

    url: TargetUrl
    key_file: AbsolutePath | None = None
    password_file: AbsolutePath | None = None
    known_hosts: AbsolutePath | None = None
    ca_file: AbsolutePath | None = None
    tls_max: Literal["1.2"] | None = None
    timezone: Timezone = "UTC"
    bandwidth: BytesPerSecond = 0

    @model_validator(mode="after")
    def _fits_its_scheme(self) -> Self:
        """Raises `ValueError` where an option that the login needs is missing, or one could not work."""
        given = [option for option, value in self if value]
        problems = list(wrong_options(self.url, given, has_credential=bool(os.environ.get(_CREDENTIALS))))
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def spec(self, name: str, staging_dir: Path) -> TargetSpec:
        """Returns these settings for restore_core. A target without a secret takes the service's credential of its name."""
        values: dict[str, Any] = {key: str(value) if isinstance(value, Path) else value for key, value in self}
        credentials = os.environ.get(_CREDENTIALS)
        wanted = "password_file" in KINDS[urlsplit(self.url).scheme].options and not self.key_file and not self.password_file
        if credentials and wanted and os.path.isfile(os.path.join(credentials, name)):
            values["password_file"] = os.path.join(credentials, name)
        return TargetSpec(name=name, staging_dir=str(staging_dir), **values)


class ConfigFile(_Table):
    """The whole of phd.toml."""

    state_dir: AbsolutePath = Path("/var/lib/phd")
    queue: QueueTable = QueueTable()
    submitters: Mapping[Submitter, SubmitterLimits] = {}
    replication: Replication = Replication()
    index: Index = Index()
    drills: Drills = Drills()
    datastores: Datastores = Datastores()
    backup: Backup = Backup()
    targets: Mapping[TargetName, TargetTable] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The settings as the program uses them. `source` is their file, None for the defaults."""

    source: Path | None
    state_dir: Path
    queue: Queue
    replication: Replication
    index: Index
    drills: Drills
    datastores: Datastores
    backup: Backup
    targets: tuple[TargetSpec, ...]

    @property
    def catalog_folder(self) -> Path:
        """The folder of the catalog's cache; it may be deleted at any time."""
        return self.state_dir / "catalog"


def from_file(file: ConfigFile, source: Path | None) -> Config:
    """Returns the settings as the program uses them."""
    tables = dict(file)
    tables["queue"] = Queue.model_construct(**dict(file.queue), submitter_limits=dict(tables.pop("submitters")))
    tables["targets"] = tuple(table.spec(name, file.backup.staging_dir) for name, table in file.targets.items())
    return Config(source=source, **tables)


def needs_restart(old: Config, new: Config) -> tuple[str, ...]:
    """Returns the changed keys that need a restart of the daemon: its lock and its queue are in those folders."""
    changed = {"queue.spool": old.queue.spool != new.queue.spool, "state_dir": old.state_dir != new.state_dir}
    return tuple(key for key, differs in changed.items() if differs)


def changed_tables(old: Config, new: Config) -> tuple[str, ...]:
    """Returns the tables of phd.toml, and keys outside of tables, in which two settings differ."""
    names = (field.name for field in fields(Config) if field.name != "source")
    return tuple(name for name in names if getattr(old, name) != getattr(new, name))

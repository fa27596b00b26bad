"""Reads `vmdks.auto`, once it does not change any more; where it cannot be read, the last good copy.

A file that vanished or became unreadable never means "no rules": the last good ones are followed, and that is reported. The copy is
`vmdks.auto.good` in state_dir.
"""

from __future__ import annotations

import os
import stat
import time
from dataclasses import dataclass, replace
from pathlib import Path

from phd_daemon.config.model import Config
from restore_core import durable
from restore_core.disk.destination import disk_key
from restore_core.disk.spelling import as_there_below
from restore_core.durable import read_plain
from restore_core.errors import BadRule, PhdError, TryAgainLater, remedy_for
from restore_core.naming import printable
from restore_core.replication.rules import MAX_BYTES, RuleSet, parse_rules

_STILL_SECONDS = 2.0
_PATIENCE = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedRules:
    """The rules to follow. `trouble` says why they are not those of the file as it is now; empty if they are."""

    found: RuleSet
    trouble: str = ""


def last_good(config: Config) -> Path:
    """Returns the path of the last good copy."""
    return config.state_dir / "vmdks.auto.good"


def load_rules(config: Config, *, keep: bool) -> LoadedRules:
    """Returns the rules of this installation. With `keep` (a pass) waits for a file that is being saved, and copies a good one.

    Raises `BadRule` or `TryAgainLater` when the file cannot be read and no good copy is there. No file and no copy: no rules.
    A link that leads nowhere is a file that cannot be read.
    """
    path = config.replication.rules
    try:
        data = _read(path, wait=keep)
        found = parse(data, config)
    except FileNotFoundError:
        dangling = path.is_symlink()
        what = f"a link to {printable(os.path.realpath(path))}, which is not there" if dangling else "there is no such file"
        trouble: PhdError = TryAgainLater(f"{printable(str(path))}: {what}", remedy="Put the file there.")
        if not dangling and not last_good(config).exists():
            return LoadedRules(found=RuleSet(rules=(), problems=()))
    except OSError as error:
        trouble = TryAgainLater(f"{printable(str(path))}: {error.strerror or error}", remedy=remedy_for(error))
    except BadRule as error:
        trouble = BadRule(f"{printable(str(path))}: {error.message}", remedy=error.remedy)
    else:
        return LoadedRules(found=found, trouble=_keep(last_good(config), data) if keep else "")
    return _fall_back(config, trouble)


def _fall_back(config: Config, trouble: PhdError) -> LoadedRules:
    copy = last_good(config)
    try:
        data = read_plain(copy, MAX_BYTES + 1)
        of = time.strftime("%Y-%m-%d %H:%M", time.localtime(os.stat(copy).st_mtime))
        return LoadedRules(found=parse(data, config), trouble=f"{trouble.message}: the last good rules are followed, those of {of}")
    except (OSError, BadRule):
        raise trouble from None


def parse(data: bytes, config: Config) -> RuleSet:
    """Returns the rules in these bytes for the datastores of this installation; accents of a destination are as they are there.

    Raises `BadRule` for what are no rules at all.
    """
    roots = config.datastores.roots
    found = parse_rules(data, roots=roots, key=lambda path: disk_key(as_there_below(path, roots), roots))
    return replace(found, rules=tuple(replace(one, destination=as_there_below(one.destination, roots)) for one in found.rules))


def _read(path: Path, *, wait: bool) -> bytes:
    """Returns the bytes of the file. Waits for one that was just written: a half-saved last line could name another disk."""
    end = time.monotonic() + _PATIENCE
    while wait and 0 <= time.time() - os.stat(path).st_mtime < _STILL_SECONDS and time.monotonic() < end:
        time.sleep(0.2)
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise BadRule("is no regular file", remedy="Put a plain file there.")  # reading a FIFO could wait for ever
        return file.read(MAX_BYTES + 1)


def _keep(copy: Path, data: bytes) -> str:
    """Writes the good copy; returns why it could not, empty if it could."""
    try:
        if read_plain(copy) == data:
            return ""
    except OSError:
        pass
    try:
        durable.write_whole(copy, data)
    except OSError as error:
        return f"{printable(str(copy))}: no copy of the rules can be kept there: {error.strerror or error}"
    return ""

"""The folder of the drills in `state_dir`: one lock, the work of the drill that runs, and what is kept of those that ended.

    .lock                       held while a drill runs
    work/                       sockets, overlays, logs of the drill that runs; what a killed one left is removed by the next
    20261129T030000Z.json       one drill, with its picture (.png) and the end of its serial line (.serial) beside it

At most `MOST_KEPT` drills are kept, and the pictures and serial lines of the newest `MOST_PICTURES`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from phd_daemon.drill.verdict import Drill
from phd_daemon.spool.locks import take_lock
from restore_core import durable
from restore_core.durable import read_plain
from restore_core.errors import TryAgainLater, from_os_error
from restore_core.naming import printable

MOST_KEPT = 500
MOST_PICTURES = 50
_MOST_RECORD = 1 << 20
_MOST_PICTURE = 64 << 20


class DrillFolder:
    """The folder of the drills of one installation."""

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / "drills"

    @contextlib.contextmanager
    def work(self) -> Iterator[Path]:
        """Yields an empty folder for the one drill that runs. Raises `TryAgainLater` if another runs, `DestinationError`."""
        folder = self.path / "work"
        where = printable(str(self.path))
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = take_lock(self.path / ".lock")
        except OSError as error:
            raise from_os_error(error, doing="making the folder of the drills", where=where) from error
        if lock is None:
            raise TryAgainLater(f"another drill runs ({where} is locked)", remedy="Try again when it has ended.")
        try:
            shutil.rmtree(folder, ignore_errors=True)
            try:
                folder.mkdir(mode=0o700)
            except OSError as error:
                raise from_os_error(error, doing="making the work folder of a drill", where=where) from error
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)

    def keep(self, done: Drill, *, picture: Path | None, serial: bytes) -> Drill:
        """Keeps a drill, and returns it with the names of its files. For the holder of the work folder. Raises `OSError`."""
        stem = f"{done.began:%Y%m%dT%H%M%SZ}"
        stem = next(name for number in range(10_000) if not (self.path / f"{(name := _named(stem, number))}.json").exists())
        kept = done
        if picture is not None and picture.is_file() and picture.stat().st_size <= _MOST_PICTURE:
            durable.write_whole(self.path / f"{stem}.png", picture.read_bytes())
            kept = replace(kept, picture=f"{stem}.png")
        if serial:
            durable.write_whole(self.path / f"{stem}.serial", serial)
            kept = replace(kept, serial=f"{stem}.serial")
        durable.write_whole(self.path / f"{stem}.json", json.dumps(kept.document(), indent=1).encode() + b"\n")
        self._remove_old()
        return kept

    def kept(self) -> list[Drill]:
        """Returns the drills that are kept, the oldest first; what cannot be read is left out. Raises `OSError`."""
        return [drill for path in self._records() if (drill := _read(path)) is not None]

    def last(self) -> Drill | None:
        """Returns the newest drill; None if there is none. Raises `OSError`."""
        return next((drill for path in reversed(self._records()) if (drill := _read(path)) is not None), None)

    def _records(self) -> list[Path]:
        try:
            return sorted(self.path / name for name in os.listdir(self.path) if name.endswith(".json") and not name.startswith("."))
        except FileNotFoundError:
            return []

    def _remove_old(self) -> None:
        records = self._records()
        for path in records[:-MOST_KEPT]:
            durable.remove(path, durable=False)
        for path in records[:-MOST_PICTURES]:
            for suffix in (".png", ".serial"):
                durable.remove(path.with_suffix(suffix), durable=False)


def _named(stem: str, number: int) -> str:
    return f"{stem}_{number}" if number else stem


def _read(path: Path) -> Drill | None:
    try:
        return Drill.read(json.loads(read_plain(path, _MOST_RECORD)))
    except (FileNotFoundError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None

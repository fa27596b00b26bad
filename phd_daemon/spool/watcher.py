"""The doorbell: watchdog tells us that something happened in the spool. What happened is for the scan to see.

Only one thing is taken from an event: that a name was *renamed into place*, since that file is complete. Everything
else is a ring. Logs and status files ring nothing.
Known and provided for: the kernel's queue overflows and watchdog tells no handler (its log line is our hook); a
removed, renamed or remounted spool goes blind without an event (`armed` compares device and inode each round); there
may be no inotify left (then the rounds come every 2 s).
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path

from watchdog.events import (
    DirDeletedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers.api import BaseObserver
from watchdog.observers.inotify import InotifyObserver

from phd_daemon.spool.layout import parse_name
from restore_core.naming import printable

_log = logging.getLogger(__name__)
_EVENTS: list[type[FileSystemEvent]] = [
    FileMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    DirDeletedEvent,
]
POLL_SECONDS = 2.0


class Doorbell(FileSystemEventHandler):
    """Calls `ring` from watchdog's thread; collects the names that were renamed into place until `take` asks."""

    def __init__(self, folder: Path, ring: Callable[[], None]) -> None:
        self._folder = folder
        self._ring = ring
        self._renamed: deque[str] = deque()
        self._observer: BaseObserver | None = None
        self._watched: tuple[int, int] | None = None
        self._warned = False
        # Overflow is a line in this logger and nothing else (watchdog issue 654).
        self._hook = _OverflowHook(ring)
        logging.getLogger("watchdog.observers.inotify_c").addHandler(self._hook)

    def arm(self) -> bool:
        """See to it that the folder of this moment is watched; False when it cannot be: then poll. Raises nothing."""
        try:
            found = os.stat(self._folder)
        except OSError:
            self._disarm()
            return False
        now = (found.st_dev, found.st_ino)
        if self._watched == now and self._alive():
            return True
        self._disarm()
        try:
            self._observer = self._start()
        except OSError as error:
            self._warn(error)
            return False
        self._watched, self._warned = now, False
        return True

    def take(self) -> frozenset[str]:
        """The names renamed into place since the last call."""
        taken = set()
        while self._renamed:  # a deque: the other thread may append meanwhile
            taken.add(self._renamed.popleft())
        return frozenset(taken)

    def close(self) -> None:
        """Stop watching."""
        self._disarm()
        logging.getLogger("watchdog.observers.inotify_c").removeHandler(self._hook)

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Called in watchdog's thread, for every event: must be short."""
        source, target = (os.path.basename(os.fsdecode(path)) for path in (event.src_path, event.dest_path))
        if isinstance(event, FileMovedEvent) and parse_name(target) is not None:
            self._renamed.append(target)
            self._ring()
        elif parse_name(source) is not None or isinstance(event, DirDeletedEvent):
            self._ring()

    def _start(self) -> BaseObserver:
        observer = InotifyObserver(generate_full_events=True)
        try:
            observer.schedule(self, os.fspath(self._folder), event_filter=_EVENTS)
            observer.start()
        except OSError:
            observer.stop()  # its reader thread runs from the constructor on
            raise
        return observer

    def _alive(self) -> bool:
        observer = self._observer
        return observer is not None and observer.is_alive() and all(emitter.is_alive() for emitter in observer.emitters)

    def _disarm(self) -> None:
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()
        self._observer = self._watched = None

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            why = f"{error.strerror or error}; the spool is looked at every {POLL_SECONDS:.0f} s instead"
            _log.warning("inotify cannot be had", extra={"spool": printable(str(self._folder)), "why": why})


class _OverflowHook(logging.Handler):
    def __init__(self, ring: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        self._ring = ring

    def emit(self, record: logging.LogRecord) -> None:
        if "overflow" in record.getMessage():
            self._ring()

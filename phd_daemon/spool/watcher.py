"""Wakes the daemon when something changes in the spool, by watchdog. What has changed is found by the scan.

Only one thing is taken from an event: that a file was *renamed into place*, since such a file is complete. All other events only
wake the daemon. Logs and status files wake nobody.
Three cases are provided for. The kernel's queue overflows: watchdog calls no handler, so its log line is caught. The spool is
deleted, renamed or mounted over: no event comes, so `watch` compares device and inode at every round. No inotify instance is left:
the rounds come every 2 s.
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
_EVENTS: list[type[FileSystemEvent]] = [FileMovedEvent, FileClosedEvent, FileCreatedEvent, FileDeletedEvent, DirDeletedEvent]
POLL_SECONDS = 2.0


class SpoolWatcher(FileSystemEventHandler):
    """Calls `wake` from watchdog's thread, and collects the names that were renamed into place."""

    def __init__(self, folder: Path, wake: Callable[[], None]) -> None:
        self._folder = folder
        self._wake = wake
        self._renamed: deque[str] = deque()
        self._observer: BaseObserver | None = None
        self._watched: tuple[int, int] | None = None
        self._warned = False
        # An overflow is a line of this logger and nothing else (watchdog issue 654).
        self._hook = _OverflowHook(wake)
        logging.getLogger("watchdog.observers.inotify_c").addHandler(self._hook)

    def watch(self) -> bool:
        """Watches the folder that has the name now; returns False if it cannot be watched: then poll. Raises nothing."""
        try:
            found = os.stat(self._folder)
        except OSError:
            self._unwatch()
            return False
        now = (found.st_dev, found.st_ino)
        if self._watched == now and self._alive():
            return True
        self._unwatch()
        try:
            self._observer = self._start()
        except OSError as error:
            self._warn(error)
            return False
        self._watched, self._warned = now, False
        return True

    def take_renamed(self) -> frozenset[str]:
        """Returns the names renamed into place since the last call."""
        taken = set()
        while self._renamed:  # a deque: the other thread may append meanwhile
            taken.add(self._renamed.popleft())
        return frozenset(taken)

    def close(self) -> None:
        """Stops watching."""
        self._unwatch()
        logging.getLogger("watchdog.observers.inotify_c").removeHandler(self._hook)

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Is called in watchdog's thread for every event, so it must be short."""
        source, target = (os.path.basename(os.fsdecode(path)) for path in (event.src_path, event.dest_path))
        if isinstance(event, FileMovedEvent) and parse_name(target) is not None:
            self._renamed.append(target)
            self._wake()
        elif parse_name(source) is not None or isinstance(event, DirDeletedEvent):
            self._wake()

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

    def _unwatch(self) -> None:
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
    def __init__(self, wake: Callable[[], None]) -> None:
        super().__init__(logging.WARNING)
        self._wake = wake

    def emit(self, record: logging.LogRecord) -> None:
        if "overflow" in record.getMessage():
            self._wake()

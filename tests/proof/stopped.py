"""A restore in a process of its own, stopped before or after any call that changes or asks something.

The child wraps those functions of the program once it has been forked. It counts each call twice, before and after it; at the
chosen mark it says so over a pipe and waits, and from then on wherever the disk may have changed, so that it can be looked at.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from restore_core import durable
from restore_core.disk import allocation, alone, locks
from restore_core.disk.destination import Destination
from restore_core.errors import PhdError
from restore_core.restore.request import RestoreOutcome
from restore_core.targets.base import Stop

Work = Callable[[Stop], RestoreOutcome]
NEVER = 1 << 30
PATIENCE = 90.0
MOVED = "refuse_if_moved"
_OF_DURABLE = (
    "exchange",
    "move",
    "remove",
    "sync_file",
    "sync_folder",
    "take_part",
    "write_all",
    "write_all_at",
    "write_new",
    "write_whole",
)
_BY_NAME: tuple[Callable[..., Any], ...] = (
    alone.alone,
    alone.lock_image,
    locks.refuse_lock_files,
    allocation.clone,
    allocation.zero_range,
)
"""Modules import these by name: each place is wrapped."""
_SHOWN = {"after exchange", "after move", "after remove", "before write_all_at", "after sync_file"}
"""Marks at which the disk may have become something else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a restore ended: `kind` is "done", the class of its error, "broke" for any other error, or "killed"."""

    kind: str
    text: str = ""
    try_again: bool = False
    marks: list[str] = field(default_factory=list)

    @property
    def done(self) -> bool:
        """It said that the disk is restored."""
        return self.kind == "done"

    def __str__(self) -> str:
        return f"{self.kind}: {self.text[:300]}"


class Hung(Exception):
    """The child did not say anything for a long time."""


class StoppedRestore:
    """One child. `at` is the mark at which it waits first."""

    def __init__(self, work: Work, *, at: int = NEVER) -> None:
        told, tell = os.pipe()
        wait, go = os.pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(told)
            os.close(go)
            _be_the_child(work, tell, wait, at)
        os.close(tell)
        os.close(wait)
        self._told, self._go, self._rest = told, go, b""
        self.mark = -1
        self.name = ""
        self.end: End | None = None

    def next_mark(self) -> bool:
        """Wait until it stands at a mark; False when it has ended: then `end` says how."""
        said = json.loads(self._line() or '{"kind": "killed"}')
        if "at" in said:
            self.mark, self.name = said["at"], said["name"]
            return True
        self.end = End(**said)
        self._reap()
        return False

    def go_on(self) -> None:
        """From where it stands."""
        os.write(self._go, b".")

    def to_its_end(self, look: Callable[[], None] = lambda: None) -> End:
        """Let it go on from the mark where it stands; `look` is called at each mark after that."""
        if self.end is None:
            self.go_on()
            while self.next_mark():
                look()
                self.go_on()
        if self.end is None:
            raise AssertionError("next_mark returns False only with an end")
        return self.end

    def kill(self) -> None:
        """As a crash of the process."""
        if self.end is None:
            os.kill(self.pid, signal.SIGKILL)
            self.end = End(kind="killed")
            self._reap()

    def _line(self) -> bytes:
        while b"\n" not in self._rest:
            if not select.select([self._told], [], [], PATIENCE)[0]:
                self.kill()
                raise Hung(f"silent after mark {self.mark} ({self.name})")
            piece = os.read(self._told, 1 << 16)
            if not piece:
                return b""
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def _reap(self) -> None:
        os.waitpid(self.pid, 0)
        os.close(self._told)
        os.close(self._go)


def to_its_end(work: Work) -> End:
    """A whole restore in a process of its own, undisturbed."""
    child = StoppedRestore(work)
    child.next_mark()
    return child.to_its_end()


class _Marks:
    """The child's side of the marks. Threads of the restore meet here one by one."""

    def __init__(self, tell: int, wait: int, at: int) -> None:
        self._tell, self._wait, self._at = tell, wait, at
        self._lock = threading.Lock()
        self._leases = 0
        self.names: list[str] = []

    def say(self, words: dict[str, Any]) -> None:
        os.write(self._tell, json.dumps(words).encode() + b"\n")

    def mark(self, name: str) -> None:
        if self._leases:
            return  # nobody can open the disk now: he would wait for us
        with self._lock:
            self.names.append(name)
            here = len(self.names) - 1
            if here == self._at or (here > self._at and name in _SHOWN):
                self.say({"at": here, "name": name})
                os.read(self._wait, 1)

    def wrapped(self, honest: Callable[..., Any]) -> Callable[..., Any]:
        name = honest.__name__

        @functools.wraps(honest)
        def call(*args: Any, **more: Any) -> Any:
            self.mark(f"before {name}")
            try:
                return honest(*args, **more)
            finally:
                self.mark(f"after {name}")

        return call

    @contextlib.contextmanager
    def leased(self, honest: Callable[[int], contextlib.AbstractContextManager[alone.Alone]], fd: int) -> Iterator[alone.Alone]:
        """A lease, in which there are no marks."""
        self._leases += 1
        try:
            with honest(fd) as lone:
                yield lone
        finally:
            self._leases -= 1

    def install(self) -> None:
        for name in _OF_DURABLE:
            setattr(durable, name, self.wrapped(getattr(durable, name)))
        setattr(Destination, MOVED, self.wrapped(getattr(Destination, MOVED)))
        calls = {honest: self.wrapped(honest) for honest in _BY_NAME}
        calls[alone.leased] = functools.partial(self.leased, alone.leased)
        for honest, call in calls.items():
            for module in [module for name, module in sys.modules.items() if name.startswith("restore_core.")]:
                for name, value in list(vars(module).items()):
                    if value is honest:
                        setattr(module, name, call)


def _be_the_child(work: Work, tell: int, wait: int, at: int) -> None:
    marks = _Marks(tell, wait, at)
    words: dict[str, Any] = {"kind": "broke"}
    try:
        marks.install()
        outcome = work(lambda: marks.mark("stop"))
        words = {"kind": "done", "text": outcome.way}
    except PhdError as error:
        words = {"kind": type(error).__name__, "text": str(error), "try_again": error.try_again}
    except BaseException:  # noqa: BLE001  the parent is told
        words["text"] = traceback.format_exc()[-1500:]
    finally:
        with contextlib.suppress(OSError):
            marks.say({**words, "marks": marks.names})
        os._exit(0)

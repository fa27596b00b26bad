"""Chooses which of several copies of a Full to read: all are proven side by side, and the fastest is taken first.

A restore does not wait for a target that is down while another has a proven copy: a copy that has not answered a moment after the
first proof is left out, and asked again only if the others fail.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from restore_core.archive.full_reader import FullReader
from restore_core.restore.request import Reporter
from restore_core.targets.base import ArchiveRef, ByteSource, Stop

GRACE = 2.0
"""Seconds after the first proven copy in which others may still answer."""
CLEARLY = 1.25
"""How many times faster another target must be than the Delta's own to be taken before it: a short read is a rough measure."""
_LOOK_EVERY = 0.5
_SAMPLE_BYTES = 4 << 20
_SAMPLE_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One copy as it was found: proven and measured, or with the error that it gave."""

    ref: ArchiveRef
    full: FullReader | None = None
    speed: float = 0.0
    """Bytes a second of a short read."""
    error: BaseException | None = None


def try_all(refs: Sequence[ArchiveRef], prove: Callable[[ArchiveRef], FullReader], stop: Stop) -> list[Tried]:
    """Proves all copies side by side. Leaves out those that have not answered `GRACE` seconds after the first proof.

    Raises what `stop` raises, also while none of them answers.
    """
    answers: queue.SimpleQueue[Tried] = queue.SimpleQueue()
    over, lock = threading.Event(), threading.Lock()

    def one(ref: ArchiveRef) -> None:
        tried = _try(ref, prove)
        with lock:
            if not over.is_set():
                answers.put(tried)
                return
        if tried.full is not None:
            tried.full.source.close()

    for ref in refs:
        threading.Thread(target=one, args=(ref,), name="prove", daemon=True).start()
    found: list[Tried] = []
    until: float | None = None
    try:
        while len(found) < len(refs) and (until is None or time.monotonic() < until):
            try:
                found.append(answers.get(timeout=_LOOK_EVERY if until is None else max(0.0, until - time.monotonic())))
            except queue.Empty:
                stop()
                continue
            if until is None and found[-1].full is not None:
                until = time.monotonic() + GRACE
    finally:
        with lock:
            over.set()
    while not answers.empty():
        found.append(answers.get())
    return found


def _try(ref: ArchiveRef, prove: Callable[[ArchiveRef], FullReader]) -> Tried:
    try:
        full = prove(ref)
    except BaseException as error:  # noqa: BLE001  carried to the thread that asked, which knows what it means
        return Tried(ref=ref, error=error)
    try:
        return Tried(ref=ref, full=full, speed=_speed(full.source))
    except BaseException as error:  # noqa: BLE001  the same
        full.source.close()
        return Tried(ref=ref, error=error)


def _speed(source: ByteSource) -> float:
    """Returns the bytes a second of a short read from the middle, which no earlier read has put into a cache."""
    began, moved = time.monotonic(), 0
    length = min(_SAMPLE_BYTES, source.size)
    for data in source.stream((source.size - length) // 2, length, chunk=256 << 10):
        moved += len(data)
        if time.monotonic() - began > _SAMPLE_SECONDS:
            break
    return moved / max(time.monotonic() - began, 1e-6)


def fastest_first(tried: Sequence[Tried], *, own: str) -> list[Tried]:
    """Returns the proven copies, fastest first; the target `own` comes before one that is not clearly faster."""
    proven = [one for one in tried if one.full is not None]
    return sorted(proven, key=lambda one: -one.speed * (CLEARLY if one.ref.target == own else 1.0))


def tell(chosen: Sequence[Tried], reporter: Reporter) -> None:
    """Note which copy is used, and why, when there is more than one."""
    if len(chosen) > 1:
        speeds = ", ".join(f"{one.ref} {one.speed / (1 << 20):.0f} MB/s" for one in chosen)
        reporter.note(f"{len(chosen)} copies of the Full: {speeds}; the first is used, and if it fails the next")

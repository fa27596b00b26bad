"""`GuestReader`: the files of one partition, read by a confined child; the parent's side.

What the child says is not trusted: every field is checked, reads stay inside of the partition.
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self, cast

from phd_daemon.guest.dialogue import LENGTH, MAX_READ, READ, Broken, Dialogue, Message, json_of
from restore_core.errors import BadArchive, BadData, ExitCode, PhdError, TargetUnavailable, UsageError
from restore_core.naming import printable
from restore_core.serve.file_systems.guest_file import GuestFacts
from restore_core.serve.magic_bytes import DiskBytes
from restore_core.serve.partitions import PartBytes, Partition
from restore_core.targets.base import Stop

_KINDS = {"file", "folder", "link", "special"}
_MAX_TEXT = 1 << 16
_ENDS = 10.0
"""Seconds that a child gets to end by itself."""


class Visitor(Protocol):
    """What is told of a walk, in order. An error that it raises ends the walk and the reader."""

    def found(self, facts: GuestFacts, depth: int) -> bool:
        """A file or folder; returns whether its content is wanted. Depth 0 is what was named."""
        ...

    def data(self, piece: bytes) -> None:
        """The next bytes of the file."""
        ...

    def hole(self, length: int) -> None:
        """The next so many bytes of the file are zero, and not stored."""
        ...

    def ended(self, problem: str) -> None:
        """The file is complete, or, with a `problem`, cannot be read further."""
        ...

    def left(self, problem: str) -> None:
        """The folder that was entered last is over; with a `problem` not all of it was seen."""
        ...


class GuestReader:
    """The file system of a partition. One thread uses it; `close` ends its child. `stop` is asked all the time."""

    def __init__(self, disk: DiskBytes, partition: Partition, stop: Stop) -> None:
        self._stop = stop
        self._bytes, self._part = PartBytes(disk, partition), partition
        self.over = False
        """Whether the child is gone; another reader has to be made."""
        self._error: PhdError | None = None
        """Why a read of the disk failed last: the child can only say that it did."""
        ours, its = socket.socketpair()
        with its:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            command = [sys.executable, "-m", "phd_daemon.guest.program", str(its.fileno()), partition.file_system]
            self._child = subprocess.Popen(  # noqa: S603  our own command line; the name of the file system is from our table
                [*command, str(partition.length)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[its.fileno()],
                start_new_session=True,
            )
        self._dialogue = Dialogue(ours)
        try:
            kind, body = self._next()
            if kind is not Message.READY:
                raise self._broken("it does not say that it is ready")
            said = self._record(body)
        except BaseException:
            self.close()
            raise
        self.notes = [str(note)[:_MAX_TEXT] for note in said.get("notes", [])]
        self.confined = str(said.get("confined", ""))

    def walk(self, path: Sequence[str], visitor: Visitor) -> None:
        """Visits what the path names, and below it what the visitor wants.

        Raises `UsageError` if it is not there, `BadData` for a file system that cannot be read, what the disk raises where even
        the path cannot be read, and what the visitor raises.
        """
        self._send(Message.WALK, json.dumps({"path": list(path)}).encode("ascii"))
        while True:
            kind, body = self._next()
            match kind:
                case Message.FOUND:
                    facts, depth = self._facts(self._record(body))
                    self._send(Message.YES if visitor.found(facts, depth) else Message.NO)
                case Message.DATA:
                    visitor.data(body)
                case Message.HOLE:
                    visitor.hole(min(LENGTH.unpack(body)[0], 1 << 63))
                case Message.ENDED:
                    visitor.ended(self._problem(body))
                case Message.LEFT:
                    visitor.left(self._problem(body))
                case Message.DONE:
                    return
                case _:
                    raise self._broken("it says what nobody asked for")

    def _next(self) -> tuple[Message, bytes]:
        """Returns the next message that is no read and no failure. Asks `stop` before each."""
        while True:
            self._stop()
            try:
                kind, body = self._dialogue.receive()
            except Broken as error:
                raise self._broken(str(error)) from error
            if kind is Message.READ:
                self._answer(body)
            elif kind is Message.FAILED:
                raise self._failed(self._record(body))
            else:
                return kind, body

    def _answer(self, body: bytes) -> None:
        if len(body) != READ.size:
            raise self._broken("it asks for no range")
        offset, length = READ.unpack(body)
        if length > MAX_READ or offset + length > self._part.length:
            raise self._broken(f"it asks for {length} bytes at {offset}, outside of the partition")
        try:
            found = self._bytes.read(offset, length) if length else b""
        except PhdError as error:
            if not isinstance(error, BadArchive):
                raise  # the target is gone, or somebody asked to stop
            self._error = error
            self._send(Message.NO_BYTES, printable(error.message)[:1000].encode())
        else:
            self._send(Message.BYTES, found)

    def _send(self, kind: Message, body: bytes = b"") -> None:
        try:
            self._dialogue.send(kind, body)
        except Broken as error:
            raise self._broken(str(error)) from error

    def _problem(self, body: bytes) -> str:
        problem = str(self._record(body).get("problem", ""))[:_MAX_TEXT]
        error, self._error = self._error, None
        return error.message if problem and error is not None else problem

    def _failed(self, said: Mapping[str, Any]) -> PhdError:
        if self._error is not None:
            return self._error
        kinds = {ExitCode.USAGE: UsageError, ExitCode.UNAVAILABLE: TargetUnavailable}
        kind = kinds.get(ExitCode(said["code"]) if said.get("code") in set(ExitCode) else ExitCode.BAD_DATA, BadData)
        return kind(f"{self._part.name}: {str(said.get('message'))[:_MAX_TEXT]}", remedy=str(said.get("remedy", ""))[:_MAX_TEXT])

    def _record(self, body: bytes) -> dict[str, Any]:
        try:
            return json_of(body)
        except Broken as error:
            raise self._broken(str(error)) from error

    def _facts(self, said: dict[str, Any]) -> tuple[GuestFacts, int]:
        depth = cast("int", said.pop("depth", None))
        try:
            facts = GuestFacts(**said)
        except TypeError as error:
            raise self._broken("a file with other facts than files have") from error
        numbers: list[object] = [depth, facts.size, facts.stored, facts.identity, facts.links]
        numbers += [number for number in (facts.mode, facts.mtime, facts.uid, facts.gid) if number is not None]
        texts: list[object] = [facts.name, facts.kind, facts.link, facts.problem, facts.note]
        if not all(map(_is_text, texts)) or facts.kind not in _KINDS:
            raise self._broken("a file with texts that cannot be")
        if not all(type(number) is int and abs(number) < 1 << 64 for number in numbers) or min(depth, facts.size, facts.stored) < 0:
            raise self._broken("a file with numbers that cannot be")
        return facts, depth

    def _broken(self, why: str) -> BadData:
        """Returns the error for a child that died or lies: in both cases the file system made it do so."""
        self.over = True
        self._dialogue.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(_ENDS)
        code = self._child.poll()
        if code is not None and code < 0:
            number = signal.Signals(-code)
            why = "it took too much processor time" if number is signal.SIGXCPU else f"it crashed ({number.name})"
        return BadData(
            f"{self._part.name}: the process that reads its {self._part.file_system} ended: {why}",
            remedy="The file system is damaged, or made to hurt. 'phd mount' or 'phd serve' give it to other programs.",
        )

    def close(self) -> None:
        """Ends the child. Harmless when repeated."""
        self._dialogue.close()
        if self._child.poll() is None:
            self._child.kill()
        self._child.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _is_text(value: object) -> bool:
    """Whether a value of the child's is a text that has bytes in UTF-8, odd ones as PEP 383 has them."""
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        return False
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True

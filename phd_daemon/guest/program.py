"""The program of the child: reads one file system, and can do nothing else.

python -m phd_daemon.guest.program FD FILE_SYSTEM SIZE
"""

from __future__ import annotations

import codecs
import contextlib
import importlib
import json
import os
import resource
import socket
import sys
from collections import OrderedDict
from dataclasses import asdict

from phd_daemon.guest.dialogue import LENGTH, MAX_READ, READ, Broken, Dialogue, Message, json_of
from phd_daemon.host.process import be_killed_first, forbid_core_dumps
from phd_daemon.worker import sandbox
from restore_core.errors import BadData, PhdError, UsageError
from restore_core.naming import printable, unescape_name
from restore_core.serve.file_systems import load, open_volume
from restore_core.serve.file_systems.guest_file import GuestFile, Volume

MEMORY = 1 << 30
PROCESSOR_SECONDS = 60
"""Time for one step: a folder entered, a file found, a MiB read."""
MAX_DEPTH = 200
_BLOCK, _BLOCKS = 1 << 16, 256
_NOBODY = 65534


class _Partition:
    """The partition as a file: each read is a question to the parent. Small reads are cached in blocks of 64 KiB."""

    def __init__(self, dialogue: Dialogue, size: int) -> None:
        self._dialogue, self._size, self._at = dialogue, size, 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

    def read(self, size: int = -1, /) -> bytes:
        size = max(0, min(size if size >= 0 else self._size, self._size - self._at))
        pieces: list[bytes] = []
        while size:
            piece = self._large(size) if size >= _BLOCK else self._small(size)
            self._at += len(piece)
            size -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def tell(self) -> int:
        return self._at

    def get_size(self) -> int:
        return self._size

    def _large(self, size: int) -> bytes:
        return self._ask(self._at, min(size, MAX_READ))

    def _small(self, size: int) -> bytes:
        number, begin = divmod(self._at, _BLOCK)
        block = self._blocks.get(number)
        if block is None:
            block = self._ask(number * _BLOCK, min(_BLOCK, self._size - number * _BLOCK))
            self._blocks[number] = block
            if len(self._blocks) > _BLOCKS:
                self._blocks.popitem(last=False)
        else:
            self._blocks.move_to_end(number)
        return block[begin : begin + size]

    def _ask(self, offset: int, length: int) -> bytes:
        self._dialogue.send(Message.READ, READ.pack(offset, length))
        kind, body = self._dialogue.receive()
        if kind is Message.NO_BYTES:
            raise OSError(5, body.decode("utf-8", "surrogateescape"))
        return body


class _Reading:
    """Answers the questions of the parent."""

    def __init__(self, dialogue: Dialogue, volume: Volume) -> None:
        self._dialogue, self._volume = dialogue, volume
        self._entered: set[int] = set()

    def serve(self) -> None:
        """Answers until the parent is gone."""
        while True:
            kind, body = self._dialogue.receive()
            if kind is not Message.WALK:
                raise Broken("a question that is not known")
            self._entered.clear()
            allow_more_time()
            try:
                self._visit(self._named(json_of(body)["path"]), 0)
            except PhdError as error:
                fail(self._dialogue, error)
            else:
                self._dialogue.send(Message.DONE)

    def _named(self, names: list[str]) -> GuestFile:
        here, path = self._volume.root, ""
        for name in names:
            facts = here.facts
            if facts.kind == "link":
                text = f"{printable(path)} is a link to {printable(facts.link)}; links of a guest are not followed"
                raise UsageError(text, remedy="Name the path that it leads to.")
            if facts.kind != "folder":
                raise UsageError(f"{printable(path)} is no folder")
            path += f"/{name}"
            found = here.find(name)
            if found is None and "%" in name:
                found = here.find(unescape_name(name))  # as 'phd ls' shows it
            if found is None:
                raise UsageError(f"there is no {printable(path)}", remedy="'phd ls DELTA p1:/FOLDER' lists a folder.")
            here = found
        return here

    def _visit(self, file: GuestFile, depth: int) -> None:
        allow_more_time()
        self._dialogue.send_record(Message.FOUND, {**asdict(file.facts), "depth": depth})
        kind, _ = self._dialogue.receive()
        if kind is not Message.YES:
            return
        if file.facts.kind == "folder":
            self._enter(file, depth)
        else:
            self._send(file)

    def _enter(self, folder: GuestFile, depth: int) -> None:
        problem = ""
        if folder.facts.identity in self._entered:
            problem = "is reached a second time; a folder has one place"
        elif depth >= MAX_DEPTH:
            problem = f"lies {MAX_DEPTH} folders deep; deeper ones are not read"
        else:
            self._entered.add(folder.facts.identity)
            try:
                for child in folder.children():
                    self._visit(child, depth + 1)
            except BadData as error:
                problem = error.message
        self._dialogue.send_record(Message.LEFT, {"problem": problem})

    def _send(self, file: GuestFile) -> None:
        problem = ""
        try:
            for piece in file.data():
                allow_more_time()
                if isinstance(piece, int):
                    self._dialogue.send(Message.HOLE, LENGTH.pack(piece))
                else:
                    self._dialogue.send(Message.DATA, piece)
        except BadData as error:
            problem = error.message
        self._dialogue.send_record(Message.ENDED, {"problem": problem})


def fail(dialogue: Dialogue, error: PhdError) -> None:
    """Tells the parent why there is no answer."""
    dialogue.send_record(Message.FAILED, {"code": int(error.exit_code), "message": error.message, "remedy": error.remedy})


def allow_more_time() -> None:
    """Sets the limit of processor time anew: from now on so many seconds. A file system that leads in a circle ends there."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + PROCESSOR_SECONDS, hard))


def give_up_rights() -> sandbox.Confinement:
    """Confines this process for good: it opens nothing more, has no more memory than `MEMORY`, and is not root."""
    forbid_core_dumps()
    be_killed_first()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    found = sandbox.confine_to_what_is_open()
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):  # without the right to (a container), it stays who it is
            os.setgroups([])
            os.setresgid(_NOBODY, _NOBODY, _NOBODY)
            os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    return found


def main() -> None:
    """Opens the file system, and answers until the parent is gone."""
    fd, file_system, size = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    dialogue = Dialogue(socket.socket(fileno=fd))
    with contextlib.suppress(Broken):
        try:
            import_all(file_system)
            confined = give_up_rights()
            allow_more_time()
            volume = open_volume(file_system, _Partition(dialogue, size))
        except PhdError as error:
            fail(dialogue, error)
            return
        dialogue.send(Message.READY, json.dumps({"notes": volume.notes, "confined": confined.describe()}).encode("ascii"))
        try:
            _Reading(dialogue, volume).serve()
        except Exception as error:
            if not isinstance(error, Broken):
                fail(dialogue, BadData(f"reading it failed in a way that phd does not know: {error!r}"))
            raise


def import_all(file_system: str) -> None:
    """Imports the library before the rights are gone: nobody may be unable to read where it is installed."""
    importlib.import_module("datetime")  # what a library imports later
    for encoding in ("cp437", "utf-16-le"):
        codecs.lookup(encoding)
    load(file_system)


if __name__ == "__main__":
    main()

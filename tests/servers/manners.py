"""What servers do that cannot be installed here: a handler for pyftpd.py. imitations.py names them.

An imitation stands in the script of pyftpd.py under the name "*" and holds from the next command on:

answers   {COMMAND: reply}: these commands are answered so, and nothing is done; [reply, N]: the first N times only
without   commands that the server does not know: 500, and not in FEAT
facts     facts that an MLSD does not tell
own       an MLSD begins with the folder itself and the one above (cdir, pdir), and shows a link as OS.unix=slink
dos       a LIST in the style of IIS
dots      names that begin with a dot are in no LIST; where this is "asked", LIST -a has them, and the folder itself
address   the address in the answer to PASV
cut       [BYTES, REPLY, N]: so many bytes into a file its transfer ends with this reply; the first N times
last      a reply that comes after the transfer of a file instead of 226, and the control connection ends with it
restart   the answer to a transfer from the middle of a file; REST itself is taken
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from pyftpdlib.handlers import DTPHandler, FTPHandler

_UNKNOWN = "500 Unknown command."
_used: Counter[str] = Counter()
"""How often each part of an imitation that holds a few times only was used."""


class Mannered(FTPHandler):  # type: ignore[misc]  # pyftpdlib has no types
    """Has the manners of the server that is imitated. `manners` is told by the script."""

    manners: dict[str, Any]
    asked_all = False
    """Whether the last command was LIST -a."""

    _restart_position: int

    def pre_process_command(self, line: str, cmd: str, arg: str) -> None:
        self.asked_all = cmd == "LIST" and arg == "-a"
        reply = self.manners.get("answers", {}).get(cmd) or (_UNKNOWN if cmd in self.manners.get("without", ()) else "")
        if isinstance(reply, list):
            reply = reply[0] if self.first_times(cmd, reply[1]) else ""
        if reply:
            self.respond(reply)
            return
        if cmd == "RETR" and self._restart_position and "restart" in self.manners:
            self._restart_position = 0
            self.respond(self.manners["restart"])
            return
        self.masquerade_address = self.manners.get("address")
        super().pre_process_command(line, cmd, arg)

    def first_times(self, what: str, times: int) -> bool:
        """Whether this part of the imitation was used fewer than `times` times; counts it."""
        key = f"{self.manners.get('name')} {what}"
        _used[key] += 1
        return _used[key] <= times

    def push(self, data: str) -> None:
        if data.startswith(" ") and data.endswith("\r\n"):  # the lines of FEAT
            without = tuple(f" {name}" for name in self.manners.get("without", ()))
            data = "".join(line + "\r\n" for line in data.splitlines() if not (without and line.startswith(without)))
        super().push(data)

    def respond(self, resp: str, *args: Any, **options: Any) -> None:
        last = self.manners.get("last")
        if (
            last is not None
            and resp.startswith("226")
            and self.data_channel is not None
            and self.data_channel.cmd in ("RETR", "STOR")
        ):
            if last:
                super().respond(last, *args, **options)
            self.close_when_done()
            return
        super().respond(resp, *args, **options)


class MannersOfTransfers(DTPHandler):  # type: ignore[misc]  # pyftpdlib has no types
    """Ends a transfer early, where asked to."""

    def send(self, data: bytes) -> int:
        cut = self.cmd_channel.manners.get("cut")
        if cut and self.cmd == "RETR" and self.tot_bytes_sent + len(data) > cut[0] and self.cmd_channel.first_times("cut", cut[2]):
            super().send(data[: max(0, cut[0] - self.tot_bytes_sent)])
            self._resp = (cut[1], lambda *_: None)
            self.close()
            return 0
        sent: int = super().send(data)
        return sent


def facts_of(manners: dict[str, Any], lines: Iterator[bytes], folder: str) -> Iterator[bytes]:
    """The lines of an MLSD, with the facts that this server tells."""
    if manners.get("own"):
        yield b"type=cdir;modify=20260301030000; .\r\n"
        yield b"type=pdir;modify=20260301030000; ..\r\n"
    left_out = tuple(name.encode() + b"=" for name in manners.get("facts", ()))
    for line in lines:
        facts, _, name = line.partition(b" ")
        kept = [fact for fact in facts.split(b";") if not (left_out and fact.startswith(left_out))]
        if manners.get("own") and os.path.islink(os.path.join(os.fsencode(folder), name.removesuffix(b"\r\n"))):
            kept = [b"type=OS.unix=slink:/x" if fact.startswith(b"type=") else fact for fact in kept]
        yield b";".join(kept) + b" " + name


def lines_of(manners: dict[str, Any], lines: Iterator[bytes], folder: str, *, asked_all: bool) -> Iterator[bytes]:
    """The lines of a LIST, in this server's style."""
    if "dots" in manners:
        shown = asked_all and manners["dots"] == "asked"
        yield from [b"drwxr-xr-x   2 root     root         4096 Mar 01 03:00 .\r\n"] if shown else []
        yield from lines if shown else (line for line in lines if b" ." not in line)
        return
    if not manners.get("dos"):
        yield from lines
        return
    for name in sorted(os.listdir(folder)):
        facts = os.stat(os.path.join(folder, name))
        size = "<DIR>         " if os.path.isdir(os.path.join(folder, name)) else f"{facts.st_size:>14}"
        when = time.strftime("%m-%d-%y  %I:%M%p", time.gmtime(facts.st_mtime))
        yield f"{when}       {size} {name}\r\n".encode("utf-8", "surrogateescape")

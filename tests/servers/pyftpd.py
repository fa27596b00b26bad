"""`python -m tests.servers.pyftpd PORT FOLDER PASSWORD_FILE`: pyftpdlib, honest or lying.

fin     5,000 bytes into a file it ends the transfer with 226
flip    one bit of byte 5,000 of a file is wrong
drip    a file comes 20 bytes at a time
reset   5,000 bytes into a file the line is reset
hole    5,000 bytes into a file nothing comes any more
list    a listing ends in the middle of a line, with 226
hostile a listing holds names that nobody may use
once    as fin, but only the first time

With `--script FILE` it says of a folder what that file says at that moment, as JSON: {"/FOLDER": {...}}, "/" for its root:

cwd     the answer to CWD                     before  the answer to LIST or MLSD, before anything is sent
keep    only the first so many lines          extra   lines that come last
drop    lines that match it are left out      sub     [pattern, replacement]: in every line
reply   the closing answer instead of 226     end     the end of a line, instead of CR LF

What it says there of "*" is an imitation (manners.py).
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.filesystems import AbstractedFS
from pyftpdlib.handlers import TLS_FTPHandler
from pyftpdlib.servers import FTPServer

from tests.servers import USER
from tests.servers.manners import Mannered, MannersOfTransfers, facts_of, lines_of

LIE_AT = 5000
_lied: list[str] = []


class LyingFile:
    """A file as the server's transfers read it."""

    def __init__(self, file: Any, lie: str) -> None:
        self._file, self._lie = file, lie
        self.name, self.closed = file.name, False

    def read(self, size: int) -> bytes:
        at: int = self._file.tell()
        if self._lie == "drip":
            time.sleep(0.05)
            size = 20
        if self._lie in ("fin", "once", "hole", "reset") and at <= LIE_AT:
            size = min(size, max(0, LIE_AT - at))
            if not size:
                self._end()
        data: bytes = self._file.read(size)
        if self._lie == "flip" and at <= LIE_AT < at + len(data):
            data = data[: LIE_AT - at] + bytes((data[LIE_AT - at] ^ 1,)) + data[LIE_AT - at + 1 :]
        return data

    def _end(self) -> None:
        _lied.append(self.name)
        if self._lie == "once":
            self._lie = ""
            Handler.lie = ""
        if self._lie == "hole":
            time.sleep(3600)

    def seek(self, *where: int) -> None:
        self._file.seek(*where)

    def fileno(self) -> int:
        raise OSError

    def close(self) -> None:
        self._file.close()
        self.closed = True


class Transfers(MannersOfTransfers):
    """Resets the line instead of closing it, where asked to."""

    def close(self) -> None:
        if Handler.lie == "reset" and _lied:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            super().close()
            return
        super().close()


class Files(AbstractedFS):  # type: ignore[misc]  # pyftpdlib has no types
    """Does not stay in a folder: pyftpdlib asks where it is after its answer, when a test may have deleted that."""

    def chdir(self, path: str) -> None:
        super().chdir(path)
        os.chdir("/")


class Folder(Files):
    """Listings, and files, with the lie of the handler."""

    def open(self, filename: str, mode: str) -> Any:
        file = super().open(filename, mode)
        return LyingFile(file, Handler.lie) if mode == "rb" and Handler.lie not in ("", "list", "hostile") else file

    def format_list(self, *args: Any, **options: Any) -> Any:
        channel = self.cmd_channel
        lines = lines_of(channel.manners, super().format_list(*args, **options), args[0], asked_all=channel.asked_all)
        return scripted(self.cmd_channel.said_of(args[0]), lines)

    def format_mlsx(self, *args: Any, **options: Any) -> Any:
        lines = facts_of(self.cmd_channel.manners, super().format_mlsx(*args, **options), args[0])
        for line in scripted(self.cmd_channel.said_of(args[0]), lines):
            yield line[: len(line) // 2] if Handler.lie == "list" else line
        if Handler.lie == "hostile":
            facts = b"type=file;size=1;perm=r;modify=20260301030000; "
            for name in (b"..", b"../../etc/passwd", b"x" * 10_000, b"a\x1b[2J", b"\xff\xfe", b"line\r\nbreak", b"a/b"):
                yield facts + name + b"\r\n"


def scripted(said: dict[str, Any], lines: Iterable[bytes]) -> Iterator[bytes]:
    """The lines of a listing, as the script will have them."""
    pattern, new = (text.encode("latin-1") for text in said.get("sub", ("", "")))
    end = said.get("end", "\r\n").encode()
    kept = [line for line in lines if not said.get("drop") or not re.search(said["drop"].encode("latin-1"), line)]
    for line in kept[: said.get("keep")]:
        yield (re.sub(pattern, new, line) if pattern else line).removesuffix(b"\r\n") + end
    for line in said.get("extra", ()):
        yield line.encode("latin-1") + end


class Scripted(Mannered):
    """Says what the script says."""

    script: Path | None = None
    _closing = ""

    def said_of(self, folder: str) -> dict[str, Any]:
        """What the script says of a folder, by its real path."""
        return self._said("/" + folder.removeprefix(self.fs.root).lstrip("/"))

    @property
    def manners(self) -> dict[str, Any]:  # type: ignore[override]  # told anew for each command
        """The imitation that the script names."""
        return self._said("*")

    def _said(self, of: str) -> dict[str, Any]:
        if self.script is None or not self.script.exists():
            return {}
        found: dict[str, Any] = json.loads(self.script.read_text()).get(of, {})
        return found

    def ftp_CWD(self, path: str) -> Any:  # noqa: N802 - pyftpdlib's name
        reply = self.said_of(path).get("cwd")
        return self.respond(reply) if reply else super().ftp_CWD(path)

    def ftp_LIST(self, path: str) -> Any:  # noqa: N802 - see above
        return self._listing(path, super().ftp_LIST)

    def ftp_MLSD(self, path: str) -> Any:  # noqa: N802 - see above
        return self._listing(path, super().ftp_MLSD)

    def respond(self, resp: str, *args: Any, **options: Any) -> None:
        if resp.startswith("226") and self._closing:
            resp, self._closing = self._closing, ""
        super().respond(resp, *args, **options)

    def _listing(self, path: str, listing: Any) -> Any:
        said = self.said_of(path)
        if "before" in said:
            return self.respond(said["before"])
        self._closing = said.get("reply", "")
        return listing(path)


class Handler(Scripted):
    lie = ""
    use_sendfile = False
    abstracted_fs = Folder
    dtp_handler = Transfers
    max_login_attempts = 1
    auth_failed_timeout = 0


class TlsHandler(TLS_FTPHandler):  # type: ignore[misc]  # pyftpdlib has no types
    tls_control_required = tls_data_required = True
    abstracted_fs = Files
    max_login_attempts = 1
    auth_failed_timeout = 0


class ImplicitHandler(TlsHandler):
    """Speaks TLS at once, before its greeting."""

    def handle(self) -> None:
        self.secure_connection(self.ssl_context)
        super().handle()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("folder")
    parser.add_argument("password_file")
    parser.add_argument("--lie", default="")
    parser.add_argument("--certificate", default="")
    parser.add_argument("--script", type=Path)
    parser.add_argument("--no-mlsd", action="store_true")
    parser.add_argument("--implicit", action="store_true")
    asked = parser.parse_args()
    logging.basicConfig(level=logging.CRITICAL)
    authorizer = DummyAuthorizer()
    authorizer.add_user(USER, Path(asked.password_file).read_text().rstrip("\n"), asked.folder, perm="elradfmwMT")
    Handler.lie, Handler.script = asked.lie, asked.script
    if asked.no_mlsd:
        Handler.proto_cmds = {name: facts for name, facts in Handler.proto_cmds.items() if not name.startswith("MLS")}
    handler: Any = Handler
    if asked.certificate:
        TlsHandler.certfile, handler = asked.certificate, ImplicitHandler if asked.implicit else TlsHandler
    handler.authorizer = authorizer
    FTPServer(("127.0.0.1", asked.port), handler).serve_forever()


if __name__ == "__main__":
    main()

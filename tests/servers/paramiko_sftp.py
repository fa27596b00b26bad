"""`python -m tests.servers.paramiko_sftp PORT FOLDER PASSWORD_FILE KEY [SCRIPT]`: an SSH server with passwords.

With a SCRIPT it says of a folder what that file says at that moment, as JSON: {"/FOLDER": {...}}, "/" for its root:

deny    the status with which it declines    keep    only the first so many names
blank   it does not say what anything is     drop    names that match it are left out

no_size  it does not say how long files are: of "/" "open" in what it says of open files, "named" of those asked for by name

quota   of "/": a write fails with which there would be more bytes than these, as OpenSSH's fails

It has none of OpenSSH's extensions.
OpenSSH checks passwords only as root and against the machine's own users; this one knows one user and one password.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import threading
from pathlib import Path
from typing import Any

import paramiko

from tests.servers import USER


class Session(paramiko.ServerInterface):  # type: ignore[misc]  # paramiko has no types
    password = ""

    def get_allowed_auths(self, username: str) -> str:
        del username
        return "password"

    def check_auth_password(self, username: str, password: str) -> int:
        right = (username, password) == (USER, self.password)
        return int(paramiko.AUTH_SUCCESSFUL if right else paramiko.AUTH_FAILED)

    def check_channel_request(self, kind: str, chanid: int) -> int:
        del kind, chanid
        return int(paramiko.OPEN_SUCCEEDED)


class File(paramiko.SFTPHandle):  # type: ignore[misc]  # paramiko has no types
    def write(self, offset: int, data: bytes) -> int:
        quota = said_of("/").get("quota")
        used = sum(path.stat().st_size for path in Path(Folder.root).rglob("*") if path.is_file()) if quota is not None else 0
        if quota is not None and used + len(data) > quota:
            return int(paramiko.SFTP_FAILURE)
        return int(super().write(offset, data))


def said_of(folder: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(Folder.script).read_text()).get(folder, {}) if os.path.exists(Folder.script) else {}
    return found


def without_size(found: Any) -> Any:
    found.st_size, found._flags = None, found._flags & ~found.FLAG_SIZE
    return found


class Folder(paramiko.SFTPServerInterface):  # type: ignore[misc]  # paramiko has no types
    root = script = ""

    def _real(self, path: str) -> str:
        return f"{self.root}{self.canonicalize(path)}"

    def list_folder(self, path: str) -> Any:
        try:
            found = [(entry.name, entry.stat(follow_symlinks=False)) for entry in os.scandir(self._real(path))]
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno)
        said = said_of(self.canonicalize(path))
        if "deny" in said:
            return said["deny"]
        kept = [one for one in found if not said.get("drop") or not re.search(said["drop"], one[0])][: said.get("keep")]
        told = [paramiko.SFTPAttributes.from_stat(facts, name) for name, facts in kept]
        for one in told if said.get("blank") else ():
            one.st_mode, one._flags = None, one._flags & ~one.FLAG_PERMISSIONS
        for one in told if said.get("no_size") else ():
            without_size(one)
        return told

    def lstat(self, path: str) -> Any:
        try:
            found = paramiko.SFTPAttributes.from_stat(os.lstat(self._real(path)))
            return without_size(found) if "named" in said_of("/").get("no_size", "") else found
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno)

    def open(self, path: str, flags: int, attr: Any) -> Any:
        del attr
        try:
            fd = os.open(self._real(path), flags, 0o600)
        except OSError as error:
            return paramiko.SFTPServer.convert_errno(error.errno)
        file = os.fdopen(fd, "wb" if flags & os.O_WRONLY else "rb")
        handle = File(flags)
        handle.readfile = handle.writefile = file
        handle.stat = lambda: self._facts(file)
        return handle

    def _facts(self, file: Any) -> Any:
        if file.writable():
            file.flush()
        found = paramiko.SFTPAttributes.from_stat(os.fstat(file.fileno()))
        return without_size(found) if "open" in said_of("/").get("no_size", "") else found

    def mkdir(self, path: str, attr: Any) -> int:
        del attr
        return self._do(os.mkdir, path)

    def remove(self, path: str) -> int:
        return self._do(os.unlink, path)

    def rmdir(self, path: str) -> int:
        return self._do(os.rmdir, path)

    def rename(self, oldpath: str, newpath: str) -> int:
        os.rename(self._real(oldpath), self._real(newpath))
        return int(paramiko.SFTP_OK)

    def _do(self, call: Any, path: str) -> int:
        try:
            call(self._real(path))
        except OSError as error:
            return int(paramiko.SFTPServer.convert_errno(error.errno))
        return int(paramiko.SFTP_OK)


def main() -> None:
    port, Folder.root, password_file, key, *script = sys.argv[1:]
    Folder.script = script[0] if script else ""
    Session.password = Path(password_file).read_text().rstrip("\n")
    with socket.create_server(("127.0.0.1", int(port))) as door:
        while True:
            line, _ = door.accept()
            threading.Thread(target=serve, args=(line, key), daemon=True).start()


def serve(line: socket.socket, key: str) -> None:
    transport = paramiko.Transport(line)
    transport.add_server_key(paramiko.PKey.from_path(key))
    transport.set_subsystem_handler("sftp", paramiko.SFTPServer, Folder)
    try:
        transport.start_server(server=Session())
    except (paramiko.SSHException, EOFError):  # somebody only looked whether the port is open
        transport.close()


if __name__ == "__main__":
    main()

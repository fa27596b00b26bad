"""Files that hold a password or a private key. One that others can read is not used.

A password is only ever in the local variables of a login: in no record, no message, and no argument of a program.
"""

from __future__ import annotations

import codecs
import os
import stat

from restore_core.errors import ConfigurationError, remedy_for
from restore_core.naming import printable

_MAX_BYTES = 4096


def read_password(path: str, *, target: str) -> str:
    """Returns the only line of a password file. Raises `ConfigurationError`, which never shows what is in the file."""
    key = f"targets.{target}.password_file"
    fd = _open(path, key)
    try:
        data = os.read(fd, _MAX_BYTES + 1)
    finally:
        os.close(fd)
    text = data.removeprefix(codecs.BOM_UTF8).removesuffix(b"\n").removesuffix(b"\r")  # some editors begin UTF-8 so
    if not text or len(data) > _MAX_BYTES or any(byte in text for byte in b"\0\r\n"):
        raise ConfigurationError(
            f"{key}: {printable(path)}: must hold one line, the password", remedy="Write the password there, alone."
        )
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigurationError(f"{key}: {printable(path)}: is not UTF-8", remedy="Write the file as UTF-8 text.") from None


def check_private(path: str, key: str) -> None:
    """Raises `ConfigurationError` if the file does not exist or others can read it. The message names the option `key`."""
    os.close(_open(path, key))


def _open(path: str, key: str) -> int:
    where = f"{key}: {printable(path)}"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigurationError(f"{where}: {error.strerror}", remedy=remedy_for(error)) from error
    facts = os.fstat(fd)
    problem = ""
    if not stat.S_ISREG(facts.st_mode):
        problem = "is not a file"
    elif facts.st_mode & 0o077:
        problem = f"has mode {stat.S_IMODE(facts.st_mode):04o}, others can read or write it"
    elif facts.st_uid not in (0, os.geteuid()):
        problem = f"belongs to user {facts.st_uid}"
    if problem:
        os.close(fd)
        raise ConfigurationError(f"{where}: {problem}", remedy=f"chmod 600 {printable(path)}, and make it your own.")
    return fd

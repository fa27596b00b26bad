"""Who a server is: the identity that it shows, what we hold of it, and how a person's decision is recorded. Nothing here decides.

    sftp   the host key        recorded in `known_hosts`, in OpenSSH's form; port 22 as `host`, others as `[host]:port`
    ftps   the certificate     pinned in `ca_file`, as PEM; one that a CA in it signed needs no record of its own

Fingerprints are SHA-256: in base64 for keys, as `ssh-keygen -l` prints them; in hex for certificates, as openssl does.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from restore_core import durable
from restore_core.errors import ConfigurationError, remedy_for
from restore_core.naming import printable


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerIdentity:
    """What a server shows of itself.

    `record` is the text that makes us trust it, `file` where that goes, `known` the fingerprints that are trusted now. `keeps`
    returns what stays in `file` when it is recorded. `about` are lines that tell a person more of it, `pins` says what exactly is
    trusted then. `vouched` says that it passes without a record, since a CA that is trusted signed it.
    """

    kind: str
    fingerprint: str
    record: bytes
    file: str
    known: tuple[str, ...]
    keeps: Callable[[bytes], bytes] = lambda content: content
    about: tuple[str, ...] = ()
    pins: str = ""
    vouched: bool = False

    @property
    def trusted(self) -> bool:
        """Whether it is recorded already."""
        return self.fingerprint in self.known


def record(shown: ServerIdentity) -> None:
    """Trusts what was shown, in the place of what was trusted of that server before."""
    kept = shown.keeps(read_trusted(shown.file))
    os.makedirs(os.path.dirname(shown.file) or ".", mode=0o755, exist_ok=True)
    lines = b"".join(line + b"\n" for line in (*kept.splitlines(), shown.record))
    durable.write_whole(os.path.realpath(shown.file), lines, mode=0o644)


def read_trusted(path: str) -> bytes:
    """Returns what a file of trusted servers holds; nothing if there is no such file."""
    try:
        with open(path, "rb") as file:
            return file.read(16 << 20)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise ConfigurationError(f"{printable(path)}: {error.strerror}", remedy=remedy_for(error)) from error

"""Who a server is: the identity that it shows, what we hold of it, and how a person's decision is recorded. Nothing here decides.

    sftp   the host key        recorded in `known_hosts`, in OpenSSH's form; port 22 as `host`, others as `[host]:port`
    ftps   the certificate     recorded in `ca_file`, as PEM; one that a CA signed needs no record of its own

Fingerprints are SHA-256: in base64 for keys, as `ssh-keygen -l` prints them; in hex for certificates, as openssl does.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from restore_core import durable
from restore_core.errors import ConfigurationError
from restore_core.naming import printable


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerIdentity:
    """What a server shows of itself.

    `record` is the text that makes us trust it, `file` where that goes, `known` the fingerprints that are there now. `replaces`
    tells the lines of `file` whose place `record` takes.
    """

    kind: str
    fingerprint: str
    record: bytes
    file: str
    known: tuple[str, ...]
    replaces: Callable[[bytes], bool] = lambda _line: False

    @property
    def trusted(self) -> bool:
        """Whether it is recorded already."""
        return self.fingerprint in self.known


def record(shown: ServerIdentity) -> None:
    """Trusts what was shown: a host key replaces the keys of its host, a certificate is added."""
    lines = [line for line in read_trusted(shown.file).splitlines() if not shown.replaces(line)]
    os.makedirs(os.path.dirname(shown.file) or ".", mode=0o755, exist_ok=True)
    durable.write_whole(shown.file, b"".join(line + b"\n" for line in (*lines, shown.record)), mode=0o644)


def read_trusted(path: str) -> bytes:
    """Returns what a file of trusted servers holds; nothing if there is no such file."""
    try:
        with open(path, "rb") as file:
            return file.read(16 << 20)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise ConfigurationError(f"{printable(path)}: {error.strerror}", remedy="Make it readable for this user.") from error

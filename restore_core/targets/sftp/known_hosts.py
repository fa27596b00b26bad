"""What a file of known hosts says of one server, as OpenSSH reads it (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"). Pure.

A line is `NAMES TYPE KEY`. NAMES are patterns with * and ?, a ! before one excludes; or one hashed name. A server on another port
than 22 is `[HOST]:PORT`; if nothing has that name, a key that is recorded for `HOST` is taken, too. `@revoked` before a line
refuses its key. `@cert-authority` names who may sign host keys: we know no signed host keys, so such a line proves nothing here.
"""

from __future__ import annotations

import base64
import binascii
import enum
import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass

_REVOKED, _AUTHORITY = b"@revoked", b"@cert-authority"


class KeyStatus(enum.Enum):
    """What the file says of a key that the server shows."""

    KNOWN = enum.auto()
    REVOKED = enum.auto()
    CHANGED = enum.auto()
    """Another key of the same type is recorded."""
    OTHER_TYPE = enum.auto()
    """Only keys of other types are recorded."""
    UNKNOWN = enum.auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A key of the file: its type, the key itself, and the number of its line."""

    type: str
    blob: bytes
    line: int

    def __str__(self) -> str:
        return f"{self.type} {key_fingerprint(self.blob)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownHost:
    """What a file says of one server. `loose` are keys that are recorded for its host without its port."""

    keys: tuple[Known, ...]
    loose: tuple[Known, ...]
    revoked: tuple[Known, ...]
    authorities: tuple[int, ...]

    @property
    def types(self) -> tuple[str, ...]:
        """The types of the keys, each once."""
        return tuple(dict.fromkeys(key.type for key in self.keys or self.loose))

    def revoked_by(self, blob: bytes) -> int | None:
        """The number of the line that revokes a key."""
        return next((key.line for key in self.revoked if key.blob == blob), None)

    def status_of(self, type_: str, blob: bytes) -> KeyStatus:
        """Returns what the file says of this key."""
        if self.revoked_by(blob) is not None:
            return KeyStatus.REVOKED
        if any(key.blob == blob for key in self.keys or self.loose):
            return KeyStatus.KNOWN
        if not self.keys:
            return KeyStatus.UNKNOWN
        return KeyStatus.CHANGED if type_ in self.types else KeyStatus.OTHER_TYPE


def name_of(host: str, port: int) -> str:
    """Returns how the file names a server."""
    return host.lower() if port == 22 else f"[{host.lower()}]:{port}"


def key_fingerprint(blob: bytes) -> str:
    """Returns the fingerprint of a key as `ssh-keygen -l` prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def known_host(content: bytes, host: str, port: int) -> KnownHost:
    """Returns what a file says of a server. Lines that nobody can read say nothing."""
    keys: list[Known] = []
    loose: list[Known] = []
    revoked: list[Known] = []
    authorities: list[int] = []
    for number, line in enumerate(content.splitlines(), 1):
        marker, names, rest = _split(line)
        exact, host_alone = _is_among(names, _own_names(host, port)), _is_among(names, (host.lower(),))
        if not (exact or host_alone):
            continue
        if marker == _AUTHORITY:
            authorities.append(number)
        elif marker in (b"", _REVOKED) and (key := _key(rest, number)) is not None:
            (revoked if marker == _REVOKED else keys if exact else loose).append(key)
    return KnownHost(keys=tuple(keys), loose=tuple(loose), revoked=tuple(revoked), authorities=tuple(authorities))


def without_keys(content: bytes, host: str, port: int) -> bytes:
    """Returns the file without the keys of one server: other names on its lines, and lines with a marker, stay."""
    own = _own_names(host, port)
    kept = []
    for line in content.splitlines(keepends=True):
        marker, names, _ = _split(line)
        if marker or not _is_among(names, own):
            kept.append(line)
        elif not names.startswith(b"|1|") and (left := _without(names, own)):
            kept.append(line.replace(names, left, 1))
    return b"".join(kept)


def _without(names: bytes, own: tuple[str, ...]) -> bytes:
    """Returns the names of a line without those of one server; empty if no other is left."""
    left = [name for name in names.split(b",") if name.lower().decode("latin-1") not in own]
    if not any(name and not name.startswith(b"!") for name in left):
        return b""
    if _is_among(b",".join(left), own):  # a pattern fits it, too
        left.insert(0, b"!" + own[0].encode())
    return b",".join(left)


def _own_names(host: str, port: int) -> tuple[str, ...]:
    """The names of a server in the file. OpenSSH never writes `[host]:22`, but it means one thing only."""
    name = name_of(host, port)
    return (name, f"[{host.lower()}]:22") if port == 22 else (name,)


def _split(line: bytes) -> tuple[bytes, bytes, list[bytes]]:
    """Returns the marker of a line, its names, and its other fields; names are empty where there is no key."""
    fields = line.split()
    marker = fields.pop(0) if fields and fields[0].startswith(b"@") else b""
    if len(fields) < 3 or fields[0].startswith(b"#"):
        return marker, b"", []
    return marker, fields[0], fields[1:]


def _key(fields: list[bytes], number: int) -> Known | None:
    try:
        return Known(type=fields[0].decode("ascii"), blob=base64.b64decode(fields[1], validate=True), line=number)
    except (ValueError, binascii.Error):
        return None


def _is_among(names: bytes, own: tuple[str, ...]) -> bool:
    """Whether one of a server's own names is among the names of a line."""
    if not names:
        return False
    if names.startswith(b"|1|"):
        return any(_is_hash_of(names, name) for name in own)
    return any(_fits(names, name) for name in own)


def _is_hash_of(hashed: bytes, name: str) -> bool:
    try:
        _, _, salt, digest = hashed.split(b"|")
        made = hmac.new(base64.b64decode(salt, validate=True), name.encode(), hashlib.sha1).digest()
        return hmac.compare_digest(made, base64.b64decode(digest, validate=True))
    except (ValueError, binascii.Error):
        return False


def _fits(names: bytes, name: str) -> bool:
    found = False
    for pattern in names.decode("latin-1").lower().split(","):
        if _pattern(pattern.removeprefix("!"))(name):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def _pattern(text: str) -> Callable[[str], object]:
    parts = re.escape(text).replace(r"\*", ".*").replace(r"\?", ".")
    return re.compile(parts, re.DOTALL).fullmatch

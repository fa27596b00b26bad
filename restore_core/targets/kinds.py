"""The kinds of targets: one table, URL scheme -> what is known of it. All else that depends on a scheme is derived from it.

A new kind of target is one module and one row here. The module has

    open_target(spec, address, limits, stop) -> Target
    ask_identity(spec, address, file, limits) -> ServerIdentity        only where the row has a `trust_file`
    removal(spec, address, path) -> str                                only where the row has a `port`

and is imported when the first target of its kind is opened: SSH takes 116 ms and 40 MB that a local restore need not pay.
"""

from __future__ import annotations

import importlib
import urllib.parse
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol, cast

from restore_core.errors import ConfigurationError
from restore_core.naming import printable
from restore_core.targets.base import DEFAULT_LIMITS, Address, ServerLimits, Stop, Target, TargetSpec
from restore_core.targets.remote.trust import ServerIdentity


class KindModule(Protocol):
    """What the module of a kind has."""

    def open_target(self, spec: TargetSpec, address: Address, limits: ServerLimits, stop: Stop | None) -> Target:
        """Returns the target. A server is not asked before the first call of it."""

    def ask_identity(self, spec: TargetSpec, address: Address, file: str, limits: ServerLimits) -> ServerIdentity:
        """Asks the server who it is, without logging in. `file` holds the identities that are trusted."""

    def removal(self, spec: TargetSpec, address: Address, path: str) -> str:
        """Returns the shell command that deletes a file on the server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What is known of one URL scheme.

    `form` shows how its URLs are written, `module` is its Python module. `port` is the default port, None for a folder of this
    machine. `options` are the keys of `[targets.NAME]` that it uses, besides those that every kind has. `needs_login` says that a
    user and a secret must be configured. `trust_file` is the option that names the file of trusted servers; without it a server
    cannot prove who it is. `clear_text` says that bytes and password can be read on the network.
    """

    form: str
    module: str
    port: int | None = None
    options: frozenset[str] = frozenset()
    needs_login: bool = False
    trust_file: str | None = None
    clear_text: bool = False

    def load(self) -> KindModule:
        """Imports the module of this kind."""
        return cast("KindModule", importlib.import_module(self.module))


_FTP, _SFTP = "restore_core.targets.ftp", "restore_core.targets.sftp"
_TLS = frozenset({"password_file", "ca_file", "tls_max"})
_SSH = frozenset({"key_file", "password_file", "known_hosts"})

KINDS: Mapping[str, Kind] = {
    "file": Kind(form="file:///folder", module="restore_core.targets.local"),
    "sftp": Kind(form="sftp://user@host/folder", module=_SFTP, port=22, options=_SSH, needs_login=True, trust_file="known_hosts"),
    "ftps": Kind(form="ftps://user@host/folder", module=_FTP, port=21, options=_TLS, trust_file="ca_file"),
    "ftp": Kind(form="ftp://user@host/folder", module=_FTP, port=21, options=frozenset({"password_file"}), clear_text=True),
}


def kind_of(spec: TargetSpec) -> Kind:
    """Returns the kind of a target; `ConfigurationError` for a scheme that is not in the table."""
    scheme = urllib.parse.urlsplit(spec.url).scheme
    if scheme not in KINDS:
        raise ConfigurationError(
            f"targets.{spec.name}.url: {printable(scheme) or 'no scheme'}: this version serves {', '.join(sorted(KINDS))}",
            remedy=f"Write {_either(kind.form for kind in KINDS.values())}.",
        )
    return KINDS[scheme]


def make_target(spec: TargetSpec, limits: ServerLimits = DEFAULT_LIMITS, stop: Stop | None = None) -> Target:
    """Opens the target behind a URL; `ConfigurationError` for a scheme that is not in the table."""
    return kind_of(spec).load().open_target(spec, address_of(spec), limits, stop)


def address_of(spec: TargetSpec) -> Address:
    """Returns the parts of `spec.url`, which the configuration has checked."""
    url = urllib.parse.urlsplit(spec.url)
    root = urllib.parse.unquote(url.path, errors="surrogateescape").rstrip("/")
    user = urllib.parse.unquote(url.username or "")
    port = url.port or kind_of(spec).port or 0
    return Address(scheme=url.scheme, host=url.hostname or "", port=port, user=user, root=root)


def server_identity(spec: TargetSpec, limits: ServerLimits = DEFAULT_LIMITS) -> ServerIdentity:
    """Asks the server who it is, without logging in. Raises `TargetUnavailable`, `ConfigurationError`."""
    kind, address = kind_of(spec), address_of(spec)
    if kind.trust_file is None:
        provable = _either(f"{scheme}://" for scheme, other in KINDS.items() if other.trust_file)
        remedy = f"Use {provable}, if it has that." if address.host else "It is a folder of this machine: trust is for servers."
        raise ConfigurationError(f"target {spec.name}: a server cannot prove who it is over {address.scheme}", remedy=remedy)
    file = getattr(spec, kind.trust_file)
    if file is None:
        raise ConfigurationError(
            f"targets.{spec.name}.{kind.trust_file} is not set", remedy="Name the file in which trusted servers are recorded."
        )
    return kind.load().ask_identity(spec, address, file, limits)


def removal_of(spec: TargetSpec, path: str) -> str:
    """Returns the shell command by which a person deletes a file on a server."""
    return kind_of(spec).load().removal(spec, address_of(spec), path)


def check_url(text: str) -> None:
    """Raises `ValueError` unless this is the URL of a target; the message never shows a password."""
    try:
        url = urllib.parse.urlsplit(text)
        password = url.password
    except ValueError:
        raise ValueError("is not a URL") from None  # the cause would show the text, which may hold a password
    if password is not None:
        raise ValueError("contains a password; write the password to a file, and name that file in password_file")
    if url.scheme not in KINDS:
        served = ", ".join(f"{scheme}://" for scheme in sorted(KINDS))
        raise ValueError(f"{printable(url.scheme) or 'no scheme'}: this version serves {served} only")
    if url.query or url.fragment:
        raise ValueError("contains a ? or a #; write them as %3F and %23 in a path")
    kind = KINDS[url.scheme]
    if kind.port is not None:
        _check_server(url, kind)
    elif url.netloc not in ("", "localhost") or not PurePosixPath(url.path).is_absolute():
        raise ValueError(f"a folder is written with three slashes: {kind.form}")


def _check_server(url: urllib.parse.SplitResult, kind: Kind) -> None:
    try:
        port = url.port
    except ValueError:
        port = 0
    if not url.hostname or port == 0:
        raise ValueError("a server is written SCHEME://user@host/folder, or SCHEME://user@host:port/folder")
    if not url.path.startswith("/"):
        raise ValueError(f"names no folder; the path after the host is absolute on the server: {kind.form}")
    if kind.needs_login and not url.username:
        raise ValueError(f"names no user: {kind.form}")
    plain = urllib.parse.unquote(url.path, errors="surrogateescape") + urllib.parse.unquote(url.username or "")
    if any(character < " " or character == "\x7f" for character in plain) or ".." in PurePosixPath(url.path).parts:
        raise ValueError("contains a control character, or '..'")


def wrong_options(url: str, given: Collection[str], *, has_credential: bool) -> Iterator[str]:
    """Yields what is wrong with the options `given` for a target: one that its login needs is missing, or one cannot work.

    `has_credential` says that the service manager may hand over the secret. A folder needs no option.
    """
    parts = urllib.parse.urlsplit(url)
    scheme, kind = parts.scheme, KINDS[parts.scheme]
    if kind.port is None:
        return
    secrets = {"key_file", "password_file"} & set(given)
    if kind.needs_login:
        if kind.trust_file and kind.trust_file not in given:
            yield (
                f"{scheme} needs {kind.trust_file}, the file in which 'phd targets trust' records the server's key: "
                f'write {kind.trust_file} = "/etc/phd/{kind.trust_file}", or another path'
            )
        if not secrets and not has_credential:
            yield f"{scheme} needs {_either(sorted({'key_file', 'password_file'} & kind.options))}"
    if "key_file" in secrets - kind.options:
        yield f"{scheme} cannot log in with a key: use password_file"
    if "password_file" in secrets and not parts.username:
        yield f"password_file without a user: write {kind.form}"
    if len(secrets) > 1:
        yield "key_file or password_file, not both"


def idle_options(spec: TargetSpec) -> Iterator[str]:
    """Yields the options of a target that nothing reads, since servers of its kind know no such thing: names, with who does."""
    kind = kind_of(spec)
    for option in sorted(frozenset().union(*(other.options for other in KINDS.values())) - kind.options):
        if getattr(spec, option):
            scheme = urllib.parse.urlsplit(spec.url).scheme
            users = _either(sorted(f"{name}://" for name, other in KINDS.items() if option in other.options))
            yield f"{option} does nothing for {scheme}://; it is for {users}"


def _either(words: Collection[str] | Iterator[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last

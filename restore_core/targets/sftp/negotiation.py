"""Which methods we and an SSH server agree on; if there are none, what each side has, and where the two would meet.

To paramiko's transport are added TCP_NODELAY (34 times as fast for small reads), TCP_USER_TIMEOUT (a dead server is noticed), and
ciphers first that check and encrypt in one pass.
"""

from __future__ import annotations

import functools
import re
import socket
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from restore_core.naming import printable
from restore_core.targets.base import ServerLimits

if TYPE_CHECKING:
    import paramiko

_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr")
_CURVE, _CURVE_BY_ITS_OLD_NAME = "curve25519-sha256", "curve25519-sha256@libssh.org"
_RSA = ("rsa-sha2-512", "rsa-sha2-256")
_NO_METHODS = ("ext-info-", "kex-strict-")
_BROKEN = re.compile(r"sha1|md5|-cbc|arcfour|ripemd|^ssh-(?:dss|rsa)|^none$")
_BEST = {"KexAlgorithms": _CURVE, "HostKeyAlgorithms": "ssh-ed25519", "Ciphers": "aes256-gcm@openssh.com", "MACs": "hmac-sha2-256"}
_SHOWN = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodKind:
    """One kind of method: the key of sshd_config that lists it, and what both sides have."""

    key: str
    theirs: tuple[str, ...]
    ours: tuple[str, ...]

    @property
    def agreed(self) -> str | None:
        """The first of ours that the server has."""
        return next((one for one in self.ours if one in self.theirs), None)


def new_transport(line: Any, limits: ServerLimits, options: dict[str, Any], recorded: Collection[str]) -> paramiko.Transport:
    """Returns a transport on a connected socket. `recorded` are the types of keys known of this host: these are asked for first."""
    if isinstance(line, socket.socket):
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(2000 * limits.idle))
    transport = _transport_type()(line, **options)
    methods = transport.get_security_options()
    methods.ciphers = _CIPHERS
    first = [method for type_ in recorded for method in (_RSA if type_ == "ssh-rsa" else (type_,)) if method in methods.key_types]
    methods.key_types = tuple(dict.fromkeys((*first, *methods.key_types)))
    return transport


@functools.cache
def _transport_type() -> type[paramiko.Transport]:
    """Returns paramiko's Transport, which keeps what the server offers, and takes two things that paramiko lacks."""
    import paramiko

    class KeepingTransport(paramiko.Transport):  # type: ignore[misc]  # paramiko has no types
        _kex_info = paramiko.Transport._kex_info  # noqa: SLF001 - there is no other way
        _preferred_kex = paramiko.Transport._preferred_kex  # noqa: SLF001 - see above
        if _CURVE_BY_ITS_OLD_NAME in _kex_info:  # RFC 8731 gave the same method this name
            _kex_info = {**_kex_info, _CURVE: _kex_info[_CURVE_BY_ITS_OLD_NAME]}
            _preferred_kex = (_CURVE, *_preferred_kex)
        offered: dict[str, list[str]] | None = None

        def _really_parse_kex_init(self, m: Any, ignore_first_byte: bool = False) -> dict[str, Any]:
            found: dict[str, Any] = super()._really_parse_kex_init(m, ignore_first_byte)
            if not ignore_first_byte:  # else it is our own
                self.offered = {name: list(value) for name, value in found.items() if name.endswith("_list")}
                for side in ("client", "server"):
                    cipher = next((one for one in _CIPHERS if one in found[f"{side}_encrypt_algo_list"]), "")
                    if "gcm" in cipher:  # it needs no MAC, and OpenSSH agrees on none
                        found[f"{side}_mac_algo_list"] = [*found[f"{side}_mac_algo_list"], *self.preferred_macs]
            return found

    return KeepingTransport


def method_kinds(transport: paramiko.Transport | None) -> tuple[MethodKind, ...]:
    """Returns what both sides have, in the order in which it is agreed on; nothing if the server has not said it."""
    offered: dict[str, list[str]] | None = getattr(transport, "offered", None)
    if transport is None or not offered:
        return ()
    methods = transport.get_security_options()
    rows: tuple[tuple[str, str, Sequence[str]], ...] = (
        ("KexAlgorithms", "kex_algo_list", methods.kex),
        ("HostKeyAlgorithms", "server_key_algo_list", methods.key_types),
        ("Ciphers", "client_encrypt_algo_list", methods.ciphers),
        ("MACs", "client_mac_algo_list", methods.digests),
    )
    return tuple(
        MethodKind(key=key, theirs=tuple(one for one in offered[name] if not one.startswith(_NO_METHODS)), ours=tuple(ours))
        for key, name, ours in rows
    )


def why_not(found: Sequence[MethodKind]) -> tuple[str, str] | None:
    """Returns where two sides do not meet and what would help, as two sentences; None if they do. Pure."""
    apart = [one for one in found if one.agreed is None]
    if any(one.key == "Ciphers" and "gcm" in (one.agreed or "") for one in found):
        apart = [one for one in apart if one.key != "MACs"]
    if not apart:
        return None
    what = "; ".join(f"its {one.key} are {_list(one.theirs)}, phd knows {_list(one.ours)}" for one in apart)
    lines = " and ".join(f"{_to_add(one)} to its line {one.key}" for one in apart)
    keys = ", give it such a host key (ssh-keygen -A)," if any(one.key == "HostKeyAlgorithms" for one in apart) else ""
    add = f"in its sshd_config add {lines}{keys} and reload sshd (sshd -T shows what it offers). Or reach it by FTPS."
    if all(_BROKEN.search(method) for one in apart for method in one.theirs):
        return what, f"What it offers is broken, and not used. Bring its SSH server up to date; if it is, {add}"
    return what, f"{add[0].upper()}{add[1:]}"


def not_accepted(transport: paramiko.Transport | None, key_type: str) -> str | None:
    """Returns what a server says of the types of keys with which it lets in, if ours is none of them."""
    said = getattr(transport, "server_extensions", {}).get("server-sig-algs", b"")
    accepted = tuple(said.decode("ascii", "replace").split(",")) if said else ()
    ours = _RSA if key_type == "ssh-rsa" else (key_type,)
    return None if not accepted or any(one in accepted for one in ours) else _list(accepted)


def _to_add(one: MethodKind) -> str:
    """Returns a method of ours that an sshd of today knows."""
    if one.key == "HostKeyAlgorithms" and any("rsa" in method for method in one.theirs):
        return "rsa-sha2-512"
    return _BEST[one.key] if _BEST[one.key] in one.ours else one.ours[0]


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(printable, names[:_SHOWN])) + more if names else "none"

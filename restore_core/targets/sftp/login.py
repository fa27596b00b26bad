"""Logs in to an SSH server, and asks for its host key, by paramiko. Host keys must be known; no agent and no other keys are used.

paramiko is imported when the first connection is made: 116 ms and 40 MB that a local restore need not pay.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import socket
import threading
from typing import TYPE_CHECKING, Any

from restore_core.errors import ConfigurationError, PhdError, TargetNotTrusted, TargetRefused, TargetUnavailable
from restore_core.naming import printable
from restore_core.targets.base import Address, ServerLimits, TargetSpec
from restore_core.targets.remote.connection import Bandwidth, TooManyConnections, no_server, server_name
from restore_core.targets.remote.secret import check_private, read_password
from restore_core.targets.remote.trust import ServerIdentity, read_trusted
from restore_core.targets.sftp.connection import SftpConnection
from restore_core.targets.sftp.known_hosts import KeyStatus, KnownHost, key_fingerprint, known_host, name_of, without_keys
from restore_core.targets.sftp.negotiation import method_kinds, new_transport, not_accepted, why_not

if TYPE_CHECKING:
    import paramiko

_KEEPALIVE = 30
_SILENT = ("No existing session", "Error reading SSH protocol banner")
"""paramiko's messages for a server that accepts the connection and then does not speak SSH."""


class SftpHost:
    """The SSH connection of one target. Each channel on it is one `SftpConnection`: a login costs 0.1 s, a channel 1 ms."""

    def __init__(self, spec: TargetSpec, address: Address, limits: ServerLimits, bandwidth: Bandwidth) -> None:
        self._spec, self._address, self._limits, self._bandwidth = spec, address, limits, bandwidth
        self._lock = threading.Lock()
        self._client: paramiko.SSHClient | None = None
        self._more: list[paramiko.SSHClient] = []

    def connect(self) -> SftpConnection:
        """Opens a channel, and the SSH connection if there is none. Raises the errors of `Target`."""
        with self._lock:
            transport = self._client.get_transport() if self._client else None
            if transport is None or not transport.is_active():
                self.close()
                self._client = log_in(self._spec, self._address, self._limits)
                transport = self._client.get_transport()
        if transport is None:
            raise TargetUnavailable(f"target {self._spec.name}: closed the connection")
        try:
            return self._on(transport)
        except TooManyConnections:  # MaxSessions of its sshd_config
            return self._on_another()

    def _on(self, transport: paramiko.Transport) -> SftpConnection:
        return SftpConnection(transport, self._spec, self._address, self._limits, self._bandwidth)

    def _on_another(self) -> SftpConnection:
        """Opens a channel on an SSH connection of its own, where the server lets in no more channels on the first one."""
        with self._lock:
            self._more = [client for client in self._more if (known := client.get_transport()) and known.is_active()]
            for client in self._more:
                with contextlib.suppress(TooManyConnections):
                    return self._on(client.get_transport())
            self._more.append(log_in(self._spec, self._address, self._limits))
            return self._on(self._more[-1].get_transport())

    def close(self) -> None:
        """Closes the SSH connection, and with it all channels."""
        client, self._client = self._client, None
        more, self._more = self._more, []
        for each in (client, *more):
            if each is not None:
                each.close()


def log_in(spec: TargetSpec, address: Address, limits: ServerLimits) -> paramiko.SSHClient:
    """Returns a connection that is logged in. Raises the errors of `Target`."""
    import paramiko

    # Errors of paramiko's threads are raised here, too; without a handler Python would also print their tracebacks.
    logging.getLogger("paramiko").addHandler(logging.NullHandler())
    where = server_name(spec, address)
    client = paramiko.SSHClient()
    known = known_host(read_trusted(spec.known_hosts) if spec.known_hosts else b"", address.host, address.port)
    client.set_missing_host_key_policy(_policy(where, spec, known))
    secret: dict[str, Any] = {}
    if spec.key_file:
        secret["pkey"] = _key(spec.key_file, spec.name)
    elif spec.password_file:
        secret["password"] = read_password(spec.password_file, target=spec.name)
    try:
        client.connect(
            address.host,
            address.port,
            address.user,
            **secret,
            allow_agent=False,
            look_for_keys=False,
            timeout=limits.connect,
            banner_timeout=limits.login,
            auth_timeout=limits.login,
            channel_timeout=limits.login,
            transport_factory=lambda line, **options: new_transport(line, limits, options, known.types),
        )
        transport = client.get_transport()
        if transport is not None:
            transport.set_keepalive(_KEEPALIVE)
        return client
    except BaseException as error:
        transport = client.get_transport()
        client.close()
        if isinstance(error, PhdError) or not isinstance(error, Exception):
            raise
        # `from None`: paramiko's frames hold the password, and a traceback may be printed with them.
        raise _our_error(error, spec, address, limits, transport=transport, key=secret.get("pkey")) from None


def _key(path: str, name: str) -> paramiko.PKey:
    import paramiko

    check_private(path, f"targets.{name}.key_file")
    try:
        return paramiko.PKey.from_path(path)
    except Exception as error:  # noqa: BLE001 - paramiko and cryptography raise whatever a file provokes
        raise ConfigurationError(
            f"targets.{name}.key_file: {printable(path)}: cannot be used: {printable(str(error))}",
            remedy="It must be a private key without a passphrase, as 'ssh-keygen -t ed25519 -N \"\"' makes it.",
        ) from None


def _policy(where: str, spec: TargetSpec, known: KnownHost) -> paramiko.MissingHostKeyPolicy:
    """Returns what paramiko asks about a host key. It is given no keys itself: it holds one of each type, and no marker."""
    import paramiko

    class Asked(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]  # paramiko has no types
        def missing_host_key(self, client: object, hostname: str, key: paramiko.PKey) -> None:
            del client, hostname
            if known.status_of(key.get_name(), key.asbytes()) is not KeyStatus.KNOWN:
                raise _not_trusted(where, spec, known, key)

    return Asked()


def _not_trusted(where: str, spec: TargetSpec, known: KnownHost, key: paramiko.PKey) -> TargetNotTrusted:
    """Returns the error for a host key that is not recorded as trusted."""
    shown, file = f"{key.get_name()} {key_fingerprint(key.asbytes())}", printable(spec.known_hosts or "no file of known hosts")
    trust = f"record it with 'phd targets trust {spec.name}'"
    compare = f"Compare it with the server's own (ssh-keygen -l), then {trust}."
    recorded = ", ".join(map(str, known.keys))
    match known.status_of(key.get_name(), key.asbytes()):
        case KeyStatus.REVOKED:
            return revoked(where, file, known, key)
        case KeyStatus.CHANGED:
            return TargetNotTrusted(
                f"{where}: THE HOST KEY HAS CHANGED: it offers {shown}, {file} has {recorded}",
                remedy=f"If that was on purpose, {trust}; else somebody is between.",
            )
        case KeyStatus.OTHER_TYPE:
            return TargetNotTrusted(
                f"{where}: its host key is of a type that is not recorded: it offers {shown}, {file} has {recorded},"
                " and the server does not offer that one any more",
                remedy=f"{compare} If nothing was changed there, somebody may be between.",
            )
    text = f"{where}: its host key is not known: it offers {shown}, and {file} has none for it"
    return TargetNotTrusted(f"{text}{_of_authorities(known)}", remedy=compare)


def revoked(where: str, file: str, known: KnownHost, key: paramiko.PKey) -> TargetNotTrusted:
    """Returns the error for a host key that the file revokes."""
    shown = f"{key.get_name()} {key_fingerprint(key.asbytes())}"
    return TargetNotTrusted(
        f"{where}: ITS HOST KEY IS REVOKED: it offers {shown}, which line {known.revoked_by(key.asbytes())} of {file} revokes",
        remedy="Whoever stole a key can be this server. Ask who runs it for a new key; only if that line is wrong, delete it.",
    )


def _of_authorities(known: KnownHost) -> str:
    if not known.authorities:
        return ""
    return f" (its line {known.authorities[0]} names a @cert-authority: phd knows no signed host keys, and needs the key itself)"


def _our_error(
    error: Exception,
    spec: TargetSpec,
    address: Address,
    limits: ServerLimits,
    *,
    transport: paramiko.Transport | None,
    key: paramiko.PKey | None = None,
) -> PhdError:
    import paramiko

    where, text = server_name(spec, address), printable(str(error))
    match error:
        case paramiko.AuthenticationException() if not _died(text):
            return _login_refused(error, where, spec, transport, key)
        case paramiko.ssh_exception.IncompatiblePeer() if why := why_not(method_kinds(transport)):
            return TargetRefused(f"{where}: no method in common: {why[0]}", remedy=why[1])
        case paramiko.ssh_exception.IncompatiblePeer():
            return TargetRefused(f"{where}: {text}", remedy="'ssh -v' to it shows what it offers. Or reach it by FTPS.")
        case TimeoutError():
            text = f"no answer within {limits.connect:.0f} s"
        case paramiko.SSHException() if text.startswith(_SILENT):
            text = f"takes the connection, and does not answer as an SSH server does within {limits.connect:.0f} s"
        case OSError():
            text = _unreachable(error)
    return no_server(where, text, "SSH", error)


def _login_refused(
    error: paramiko.AuthenticationException, where: str, spec: TargetSpec, transport: paramiko.Transport | None, key: Any
) -> TargetRefused:
    """Returns the error for a login that the server refuses; `key` is ours, None for a password."""
    text = f"{where}: refuses the login"
    takes = tuple(getattr(error, "allowed_types", ()))
    if takes and ("publickey" if key is not None else "password") not in takes:
        return TargetRefused(
            f"{text}: it takes {printable(', '.join(takes))}, and phd offers a {'key' if key is not None else 'password'}",
            remedy="Set what it takes, key_file or password_file; where it wants both (AuthenticationMethods), let it want one.",
        )
    if key is not None and (accepted := not_accepted(transport, key.get_name())):
        return TargetRefused(
            f"{text}: its PubkeyAcceptedAlgorithms are {accepted}; key_file is {key.get_name()}",
            remedy="Make a key of such a type (ssh-keygen -t), or let that line of its sshd_config hold this one, too.",
        )
    user = f"Check the user in targets.{spec.name}.url and its key_file or password_file."
    there = (
        f" Is the key in that user's authorized_keys, and does the server take {key.get_name()} (PubkeyAcceptedAlgorithms)?"
        if key
        else ""
    )
    return TargetRefused(f"{text}: {printable(str(error))}", remedy=f"{user}{there} Nothing tries again.")


def _unreachable(error: OSError) -> str:
    """Returns why a server cannot be reached: paramiko hides the errors of all its addresses behind one without a text."""
    gathered = list(getattr(error, "errors", {}).values())
    said = [one.strerror or printable(str(one)) for one in [*gathered, error] if isinstance(one, OSError)]
    return f"cannot be reached: {said[0]}"


def _died(text: str) -> bool:
    """Whether the server closed the connection: paramiko says "authentication failed" then, too."""
    return "timeout" in text.lower() or "eof" in text.lower()


def ask_identity(spec: TargetSpec, address: Address, file: str, limits: ServerLimits) -> ServerIdentity:
    """Asks a server for its host key, without logging in. `file` is the known_hosts that is trusted."""
    import paramiko

    logging.getLogger("paramiko").addHandler(logging.NullHandler())
    where, transport = server_name(spec, address), None
    known = known_host(read_trusted(file), address.host, address.port)
    try:
        with contextlib.closing(socket.create_connection((address.host, address.port), limits.connect)) as line:
            transport = new_transport(line, limits, {}, known.types)
            transport.banner_timeout = limits.login
            try:
                transport.start_client(timeout=limits.login)
                key = transport.get_remote_server_key()
            finally:
                transport.close()
    except (OSError, paramiko.SSHException, EOFError) as error:
        raise _our_error(error, spec, address, limits, transport=transport) from error
    if known.status_of(key.get_name(), key.asbytes()) is KeyStatus.REVOKED:
        raise revoked(where, printable(file), known, key)
    name = name_of(address.host, address.port)
    trusted = known.status_of(key.get_name(), key.asbytes()) is KeyStatus.KNOWN
    return ServerIdentity(
        kind="host key",
        fingerprint=key_fingerprint(key.asbytes()),
        record=f"{name} {key.get_name()} {key.get_base64()}".encode("ascii"),
        file=file,
        known=(key_fingerprint(key.asbytes()),) if trusted else tuple(key_fingerprint(each.blob) for each in known.keys),
        keeps=functools.partial(without_keys, host=address.host, port=address.port),
        about=(f"type    {key.get_name()}{_of_authorities(known)}",),
        pins=f"this key for {name}, and no other",
    )

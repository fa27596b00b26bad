"""Logs in to an SSH server, and asks for its host key, by paramiko. Host keys must be known; no agent and no other keys are used.

paramiko is imported when the first connection is made: 116 ms and 40 MB that a local restore need not pay. This module adds
TCP_NODELAY (34 times as fast for small reads), TCP_USER_TIMEOUT (a dead server is noticed), and puts ciphers first that check
and encrypt in one pass.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import logging
import socket
import threading
from typing import TYPE_CHECKING, Any

from restore_core.errors import ConfigurationError, PhdError, TargetNotTrusted, TargetRefused, TargetUnavailable
from restore_core.naming import printable
from restore_core.targets.base import Address, ServerLimits, TargetSpec
from restore_core.targets.remote.connection import Bandwidth, no_server, server_name
from restore_core.targets.remote.secret import check_private, read_password
from restore_core.targets.remote.trust import ServerIdentity, read_trusted
from restore_core.targets.sftp.connection import SftpConnection

if TYPE_CHECKING:
    import paramiko

_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "aes128-ctr", "aes192-ctr", "aes256-ctr")
_KEEPALIVE = 30
_SILENT = ("No existing session", "Error reading SSH protocol banner")
"""paramiko's messages for a server that accepts the connection and then does not speak SSH."""
_OLD_SERVER = (
    "The server only offers methods that are broken, like ssh-rsa or diffie-hellman-group14-sha1. Bring its SSH server up to date, "
    "give it an ed25519 key, or reach it by FTPS."
)


class SftpHost:
    """The SSH connection of one target. Each channel on it is one `SftpConnection`: a login costs 0.1 s, a channel 1 ms."""

    def __init__(self, spec: TargetSpec, address: Address, limits: ServerLimits, bandwidth: Bandwidth) -> None:
        self._spec, self._address, self._limits, self._bandwidth = spec, address, limits, bandwidth
        self._lock = threading.Lock()
        self._client: paramiko.SSHClient | None = None

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
        return SftpConnection(transport, self._spec, self._address, self._limits, self._bandwidth)

    def close(self) -> None:
        """Closes the SSH connection, and with it all channels."""
        client, self._client = self._client, None
        if client is not None:
            client.close()


def log_in(spec: TargetSpec, address: Address, limits: ServerLimits) -> paramiko.SSHClient:
    """Returns a connection that is logged in. Raises the errors of `Target`."""
    import paramiko

    # Errors of paramiko's threads are raised here, too; without a handler Python would also print their tracebacks.
    logging.getLogger("paramiko").addHandler(logging.NullHandler())
    where = server_name(spec, address)
    client = paramiko.SSHClient()
    _load_known_hosts(client, spec)
    client.set_missing_host_key_policy(_reject_unknown(where, spec))
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
            transport_factory=lambda line, **options: _transport(line, limits, options),
        )
        transport = client.get_transport()
        if transport is not None:
            transport.set_keepalive(_KEEPALIVE)
        return client
    except BaseException as error:
        client.close()
        if isinstance(error, PhdError) or not isinstance(error, Exception):
            raise
        # `from None`: paramiko's frames hold the password, and a traceback may be printed with them.
        raise _our_error(error, where, spec, limits) from None


def _transport(line: Any, limits: ServerLimits, options: dict[str, Any]) -> paramiko.Transport:
    import paramiko

    if isinstance(line, socket.socket):
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(2000 * limits.idle))
    transport = paramiko.Transport(line, **options)
    transport.get_security_options().ciphers = _CIPHERS
    return transport


def _load_known_hosts(client: paramiko.SSHClient, spec: TargetSpec) -> None:
    try:
        if spec.known_hosts:
            client.load_host_keys(spec.known_hosts)
    except FileNotFoundError:
        return  # nothing is trusted yet; the refusal says how to change that
    except OSError as error:
        raise ConfigurationError(
            f"targets.{spec.name}.known_hosts: {printable(spec.known_hosts or '')}: {error.strerror}",
            remedy="Make it readable for this user.",
        ) from error


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


def _reject_unknown(where: str, spec: TargetSpec) -> paramiko.MissingHostKeyPolicy:
    import paramiko

    class Unknown(paramiko.RejectPolicy):  # type: ignore[misc]  # paramiko has no types
        """RejectPolicy, with a message that says what to do."""

        def missing_host_key(self, client: object, hostname: str, key: paramiko.PKey) -> None:
            del client, hostname
            raise TargetNotTrusted(
                f"{where}: its host key is not known: it offers {key.get_name()} {_fingerprint(key.asbytes())},"
                f" and {printable(spec.known_hosts or 'no file of known hosts')} has none for it",
                remedy=f"Compare it with the server's own (ssh-keygen -l), then record it with 'phd targets trust {spec.name}'.",
            )

    return Unknown()


def _our_error(error: Exception, where: str, spec: TargetSpec, limits: ServerLimits) -> PhdError:
    import paramiko

    text = printable(str(error))
    match error:
        case paramiko.BadHostKeyException():
            return TargetNotTrusted(
                f"{where}: THE HOST KEY HAS CHANGED: it offers {_fingerprint(error.key.asbytes())},"
                f" {printable(spec.known_hosts or '')} has {_fingerprint(error.expected_key.asbytes())}",
                remedy=f"If that was on purpose, record it with 'phd targets trust {spec.name}'; else somebody is between.",
            )
        case paramiko.AuthenticationException() if not _died(text):
            return TargetRefused(
                f"{where}: refuses the login: {text}",
                remedy=f"Check the user in targets.{spec.name}.url and its key_file or password_file. Nothing tries again.",
            )
        case paramiko.ssh_exception.IncompatiblePeer():
            return TargetRefused(f"{where}: {text}", remedy=_OLD_SERVER)
        case TimeoutError():
            text = f"no answer within {limits.connect:.0f} s"
        case paramiko.SSHException() if text.startswith(_SILENT):
            text = f"takes the connection, and does not answer as an SSH server does within {limits.connect:.0f} s"
        case OSError():
            text = _unreachable(error)
    return no_server(where, text, "SSH", error)


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

    where = server_name(spec, address)
    try:
        with contextlib.closing(socket.create_connection((address.host, address.port), limits.connect)) as line:
            transport = paramiko.Transport(line)
            try:
                transport.start_client(timeout=limits.login)
                key = transport.get_remote_server_key()
            finally:
                transport.close()
    except OSError as error:
        raise TargetUnavailable(f"{where}: {error.strerror or error}", remedy="Is the server up?") from error
    except (paramiko.SSHException, EOFError) as error:
        raise TargetRefused(f"{where}: {printable(str(error))}", remedy="Does this server speak SSH?") from error
    host = address.host if address.port == 22 else f"[{address.host}]:{address.port}"  # as known_hosts writes it
    return ServerIdentity(
        kind="host key",
        fingerprint=_fingerprint(key.asbytes()),
        record=f"{host} {key.get_name()} {key.get_base64()}".encode("ascii"),
        file=file,
        known=tuple(_line_fingerprint(line) for line in read_trusted(file).splitlines() if _names(line, host)),
        replaces=functools.partial(_names, host=host),
    )


def _names(line: bytes, host: str) -> bool:
    """Whether a line of known_hosts is about this host."""
    fields = line.split()
    if len(fields) < 3 or fields[0].startswith((b"#", b"@")):
        return False
    if fields[0].startswith(b"|1|"):
        from paramiko import HostKeys

        hashed = fields[0].decode("ascii", "replace")
        with contextlib.suppress(Exception):  # a line that is not a hash is about no host
            return bool(HostKeys.hash_host(host, hashed) == hashed)
        return False
    return host.encode() in fields[0].split(b",")


def _line_fingerprint(line: bytes) -> str:
    try:
        return _fingerprint(base64.b64decode(line.split()[2], validate=True))
    except ValueError:
        return "an unreadable key"


def _fingerprint(blob: bytes) -> str:
    """Returns the fingerprint of a key as `ssh-keygen -l` prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")

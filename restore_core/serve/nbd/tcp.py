"""NBD over TCP: only in TLS, and only for clients with a certificate of the authority that the folder names."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from pathlib import Path

from restore_core.errors import ConfigurationError, DestinationError, DestinationInUse, UsageError, is_no_answer, remedy_for
from restore_core.naming import printable

PORT = 10809
CA, CERTIFICATE, KEY = "ca-cert.pem", "server-cert.pem", "server-key.pem"
"""The names that QEMU and nbdkit use, too."""
_WAITING_CLIENTS = 16


def parse_host_and_port(text: str) -> tuple[str, int]:
    """Returns the parts of HOST:PORT, of [IPv6]:PORT, or of a host alone. Raises `UsageError`."""
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(PORT)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or not 0 <= int(port) < 1 << 16:
        raise UsageError(
            f"--tcp {printable(text)}: is not HOST:PORT", remedy=f"Write an address of this machine, as 192.0.2.7:{PORT}."
        )
    return host, int(port)


def server_tls(folder: Path) -> ssl.SSLContext:
    """Returns what TLS needs, from three files in a folder. Raises `ConfigurationError`."""
    where = printable(str(folder))
    for name in (CA, CERTIFICATE, KEY):
        if not os.access(folder / name, os.R_OK):
            raise ConfigurationError(
                f"{where}: there is no {name} that can be read",
                remedy=f"TLS needs {CA}, {CERTIFICATE} and {KEY}, as qemu-nbd does; the first signs the clients' certificates.",
            )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    try:
        context.load_verify_locations(cafile=str(folder / CA))
        context.load_cert_chain(folder / CERTIFICATE, folder / KEY, password=lambda: b"")
    except (OSError, ValueError) as error:  # SSLError is an OSError
        raise ConfigurationError(
            f"{where}: TLS cannot be used with these files: {printable(str(error))}",
            remedy="Each must be PEM, the key without a password, and fit its certificate.",
        ) from error
    return context


def tcp_socket(host: str, port: int) -> socket.socket:
    """Returns a listening socket. Raises `DestinationInUse` for a port that is taken, `DestinationError`."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family, backlog=_WAITING_CLIENTS)
    except OSError as error:
        text = f"{printable(host)}:{port}: listening: {error.strerror or error}"
        if error.errno == errno.EADDRINUSE:
            raise DestinationInUse(text, remedy="Choose another port.") from error
        remedy = remedy_for(error) if is_no_answer(error) else "Name an address of this machine, and a port from 1024 on."
        raise DestinationError(text, remedy=remedy) from error

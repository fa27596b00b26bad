"""Who a server is: what it offers, what we hold of it, and how a person's decision is recorded. Nothing here decides.

    sftp   the host key        recorded in `known_hosts`, in OpenSSH's form; port 22 as `host`, others as `[host]:port`
    ftps   the certificate     recorded in `ca_file`, as PEM; one that a CA signed needs no record of its own

Fingerprints are SHA-256: in base64 for keys, as `ssh-keygen -l` prints them; in hex for certificates, as openssl does.
"""

from __future__ import annotations

import base64
import contextlib
import ftplib
import hashlib
import os
import re
import socket
import ssl
from dataclasses import dataclass

from restore_core import durable
from restore_core.errors import ConfigurationError, TargetRefused, TargetUnavailable
from restore_core.naming import printable
from restore_core.targets.base import TargetSpec
from restore_core.targets.limits import DEFAULT, Limits
from restore_core.targets.remote.server import Address, address_of

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\s*", re.DOTALL)
_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """What a server shows. `record` is the text that will make us trust it, `file` where that goes, `known` what is there now."""

    kind: str
    fingerprint: str
    record: bytes
    file: str
    known: tuple[str, ...]

    @property
    def trusted(self) -> bool:
        """Nothing is to be done."""
        return self.fingerprint in self.known


def offered(spec: TargetSpec, limits: Limits = DEFAULT) -> Offered:
    """Ask the server who it is, without logging in. Raises `TargetUnavailable`, `ConfigurationError`."""
    address = address_of(spec)
    file, key = (spec.known_hosts, "known_hosts") if address.scheme == "sftp" else (spec.ca_file, "ca_file")
    if address.scheme not in ("sftp", "ftps"):
        raise ConfigurationError(f"target {spec.name}: {address.scheme} proves nothing", remedy="Use sftp:// or ftps://.")
    if file is None:
        raise ConfigurationError(
            f"targets.{spec.name}.{key} is not set", remedy="Name the file in which trusted servers are recorded."
        )
    if address.scheme == "ftps":
        found = certificate_offered(address, limits)
        if found is None:
            raise TargetUnavailable(f"target {spec.name} ({address.host}:{address.port}): shows no certificate", remedy="Is it up?")
        known = certificates_known(spec)
        return Offered(kind="certificate", fingerprint=found.fingerprint, record=found.pem, file=file, known=known)
    return _key_offered(spec, address, file, limits)


def record(spec: TargetSpec, shown: Offered) -> None:
    """Trust what was shown: it replaces the host's keys in `known_hosts`, and is added to `ca_file`."""
    old = _read(shown.file)
    if shown.kind == "certificate":
        text = old + (b"" if not old or old.endswith(b"\n") else b"\n") + shown.record
    else:
        host = host_name(address_of(spec))
        lines = [line for line in old.splitlines() if not _names(line, host)]
        text = b"".join(line + b"\n" for line in (*lines, shown.record))
    os.makedirs(os.path.dirname(shown.file) or ".", mode=0o755, exist_ok=True)
    durable.write_whole(shown.file, text, mode=0o644)


def host_name(address: Address) -> str:
    """The server as known_hosts writes it."""
    return address.host if address.port == 22 else f"[{address.host}]:{address.port}"


def key_fingerprint(blob: bytes) -> str:
    """As `ssh-keygen -l` prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """One certificate."""

    fingerprint: str
    pem: bytes


def certificate_offered(address: Address, limits: Limits) -> Certificate | None:
    """The certificate that an FTP server shows, unchecked; None if it shows none. Nothing is told to it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # only to show its fingerprint to a person
    try:
        with ftplib.FTP_TLS(context=context, encoding="latin-1") as ftp:  # noqa: S321 - asks for a certificate, tells nothing
            ftp.connect(address.host, address.port, timeout=limits.connect)
            ftp.auth()
            line = ftp.sock
            found = line.getpeercert(binary_form=True) if isinstance(line, ssl.SSLSocket) else None
    except (ftplib.Error, OSError, EOFError):
        return None
    return _certificate(found) if found else None


def certificates_known(spec: TargetSpec) -> tuple[str, ...]:
    """Fingerprints of the first certificates in `ca_file`."""
    blocks = _PEM.findall(_read(spec.ca_file)) if spec.ca_file else []
    found = []
    for block in blocks:
        with contextlib.suppress(ValueError):
            found.append(_certificate(ssl.PEM_cert_to_DER_cert(block.decode("ascii"))).fingerprint)
    return tuple(found[:_SHOWN])


def _certificate(der: bytes) -> Certificate:
    digest = hashlib.sha256(der).hexdigest().upper()
    pairs = ":".join(digest[at : at + 2] for at in range(0, len(digest), 2))
    return Certificate(fingerprint=f"SHA256 {pairs}", pem=ssl.DER_cert_to_PEM_cert(der).encode("ascii"))


def _key_offered(spec: TargetSpec, address: Address, file: str, limits: Limits) -> Offered:
    import paramiko

    where = f"target {spec.name} ({address.host}:{address.port})"
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
    host = host_name(address)
    record = f"{host} {key.get_name()} {key.get_base64()}".encode("ascii")
    known = tuple(_line_fingerprint(line) for line in _read(file).splitlines() if _names(line, host))
    return Offered(kind="host key", fingerprint=key_fingerprint(key.asbytes()), record=record, file=file, known=known)


def _names(line: bytes, host: str) -> bool:
    """Whether a line of known_hosts is about this host."""
    fields = line.split()
    if len(fields) < 3 or fields[0].startswith((b"#", b"@")):
        return False
    if fields[0].startswith(b"|1|"):
        from paramiko import HostKeys

        hashed = fields[0].decode("ascii", "replace")
        with contextlib.suppress(Exception):  # a line that is no hash names nobody
            return bool(HostKeys.hash_host(host, hashed) == hashed)
        return False
    return host.encode() in fields[0].split(b",")


def _line_fingerprint(line: bytes) -> str:
    try:
        return key_fingerprint(base64.b64decode(line.split()[2], validate=True))
    except ValueError:
        return "an unreadable key"


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(16 << 20)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise ConfigurationError(f"{printable(path)}: {error.strerror}", remedy="Make it readable for this user.") from error

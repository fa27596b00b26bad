"""Logs in to an FTP server, and asks for its certificate. Certificates are checked; a password is read and not kept."""

from __future__ import annotations

import contextlib
import datetime as dt
import ftplib
import functools
import socket
import ssl
from typing import Any

from restore_core.errors import PhdError, TargetNotTrusted, TargetRefused
from restore_core.naming import printable
from restore_core.targets.base import Address, ServerLimits, TargetSpec
from restore_core.targets.ftp.certificate import (
    TargetContext,
    certificate_fingerprint,
    data_not_trusted,
    describe,
    has_authorities,
    known_certificates,
    pin,
    pinned,
    tls_context,
    unchecked_context,
    without_pins,
)
from restore_core.targets.ftp.data_connection import PassiveFtp
from restore_core.targets.ftp.refusal import too_many
from restore_core.targets.ftp.replies import Meaning, meaning_of
from restore_core.targets.remote.connection import no_server, server_name
from restore_core.targets.remote.secret import read_password
from restore_core.targets.remote.trust import ServerIdentity, read_trusted

_ANONYMOUS = "anonymous"
_TLS_RECORDS = (b"\x15", b"\x16")
_ANSWER = 4.0
"""Seconds in which a server that said nothing answers in TLS."""
_SILENCE = 4.0
"""Seconds after which a server that said nothing is asked in TLS. One that looks up our name first may need longer."""
_IMPLICIT_PORT = 990
_NO_TLS_IN_COMMON = ("PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "HANDSHAKE_FAILURE", "INSUFFICIENT_SECURITY", "KEY_TOO_SMALL")
"""Ends of OpenSSL's reasons."""
_speak_tls_at_once: set[tuple[str, int]] = set()
"""Servers that were found to be so, that the wait is not repeated for each connection."""


class _Greeted(PassiveFtp):
    """FTP that does not take "SSH-2.0-..." for the first of several lines, and wait for the last."""

    def connect_within(self, host: str, port: int, limit: float, greeting: float) -> None:
        """Connects within `limit` seconds, and waits `greeting` seconds for the server to speak."""
        self.host, self.port, self.timeout = host, port, limit
        line = self.sock = socket.create_connection((host, port), limit)
        self.af, self.file = line.family, line.makefile("r", encoding=self.encoding)
        line.settimeout(greeting)
        self.welcome = self.getresp()
        line.settimeout(limit)

    def getline(self) -> str:
        """Reads a line."""
        line = super().getline()
        if line.startswith(("SSH-", "HTTP/")):
            raise ftplib.error_proto(line)  # noqa: S321 - only its error
        return line


class FtpTls(_Greeted, ftplib.FTP_TLS):
    """FTP_TLS with data connections that reuse the TLS session of the control connection (CPython issue 63699 asks for it)."""

    def ntransfercmd(self, cmd: str, rest: int | str | None = None) -> tuple[socket.socket, int | None]:
        """Opens a data connection, as the base class does."""
        line, size = PassiveFtp.ntransfercmd(self, cmd, rest)  # wrapped in TLS just below
        control: Any = self.sock
        context: Any = self.context
        try:
            return context.wrap_socket(line, server_hostname=self.host, session=control.session), size
        except BaseException as error:
            line.close()
            if isinstance(error, ssl.SSLCertVerificationError):
                raise data_not_trusted(context, error) from error
            raise

    def connect_at_once(self, host: str, port: int, timeout: float) -> None:
        """Connects to a server that speaks TLS from the first byte on (implicit), and waits for its greeting."""
        self.host, self.port, self.timeout = host, port, timeout
        line = socket.create_connection((host, port), timeout)
        self.af = line.family
        self.sock = self.context.wrap_socket(line, server_hostname=host)
        self.file = self.sock.makefile("r", encoding=self.encoding)
        self.welcome = self.getresp()


def log_in(spec: TargetSpec, address: Address, limits: ServerLimits) -> ftplib.FTP:
    """Returns a session that is logged in; the caller sets its mode. Raises the errors of `Target`."""
    password = read_password(spec.password_file, target=spec.name) if spec.password_file else ""
    ftp = _session(spec, address)
    where = server_name(spec, address)
    try:
        _connect(ftp, address, limits, where)
        _keep_alive(ftp, limits)
        if isinstance(ftp, ftplib.FTP_TLS) and not isinstance(ftp.sock, ssl.SSLSocket):
            ftp.auth()
        _authenticate(ftp, spec, address.user or _ANONYMOUS, password, where)
        if isinstance(ftp, ftplib.FTP_TLS):
            ftp.prot_p()
        return ftp
    except BaseException as error:
        ftp.close()
        if isinstance(error, ssl.SSLCertVerificationError):
            raise _not_trusted(spec, address, limits, error) from error
        if isinstance(error, ftplib.Error | OSError | EOFError):
            raise _unavailable(where, error, limits) from error
        raise


def ask_identity(spec: TargetSpec, address: Address, file: str, limits: ServerLimits) -> ServerIdentity:
    """Asks a server for its certificate, without logging in. `file` holds the certificates that are trusted."""
    where = server_name(spec, address)
    try:
        der = _certificate(unchecked_context(spec, address), address, limits, where)
    except (ftplib.Error, OSError, EOFError) as error:
        raise _unavailable(where, error, limits) from error
    content, shown = read_trusted(file), certificate_fingerprint(der)
    pins = pinned(content, address)
    vouched = not pins and has_authorities(content) and _is_vouched_for(spec, address, limits)
    return ServerIdentity(
        kind="certificate",
        fingerprint=shown,
        record=pin(der, address),
        file=file,
        known=(shown,) if vouched else pins,
        keeps=functools.partial(without_pins, address=address),
        about=describe(der, address.host, dt.datetime.now(dt.UTC)),
        pins=f"this one certificate for {address.host}:{address.port}: its names, dates and issuer do not count then,"
        " and any other is refused, also a renewed one",
        vouched=vouched,
    )


def _is_vouched_for(spec: TargetSpec, address: Address, limits: ServerLimits) -> bool:
    """Whether an authority of `ca_file` signed the certificate, and its name and dates are right."""
    with contextlib.suppress(ftplib.Error, OSError, EOFError, PhdError):
        _certificate(tls_context(spec, address), address, limits, "")
        return True
    return False


def _certificate(context: TargetContext, address: Address, limits: ServerLimits, where: str) -> bytes:
    """Returns the certificate that a server shows, without logging in. Raises errors of ftplib, `OSError`, `EOFError`."""
    with FtpTls(context=context, encoding="latin-1") as ftp:
        _connect(ftp, address, limits, where)
        if not isinstance(ftp.sock, ssl.SSLSocket):
            ftp.auth()
        line = ftp.sock
        return (line.getpeercert(binary_form=True) if isinstance(line, ssl.SSLSocket) else None) or b""


def speaks_tls_at_once(address: Address) -> bool:
    """Whether this FTPS server is known to speak TLS from the first byte on."""
    return address.port == _IMPLICIT_PORT or (address.host, address.port) in _speak_tls_at_once


def _connect(ftp: _Greeted, address: Address, limits: ServerLimits, where: str) -> None:
    """Connects and reads the greeting. Port 990, and a server found to be so, speak TLS at once (implicit FTPS).

    A server that says nothing is asked in TLS, on the same connection: each other one counts where there is a limit.
    One that greets late, or says nothing to that either, gets a new connection and all of the time.
    """
    host, port = address.host, address.port
    if isinstance(ftp, FtpTls) and speaks_tls_at_once(address):
        ftp.connect_at_once(host, port, limits.connect)
        return
    silence = min(_SILENCE, limits.connect)
    try:
        try:
            ftp.connect_within(host, port, limits.connect, silence)
        except TimeoutError:
            if ftp.sock is None:
                raise
            found = _answer_to_tls(ftp.sock, host)
            ftp.close()
            if found[:1] in _TLS_RECORDS:
                _connect_at_once(ftp, address, limits, where)
            elif found.startswith(b"HTTP"):
                raise _another(where, found.decode("latin-1")) from None
            elif silence == limits.connect:
                raise
            else:
                ftp.connect_within(host, port, limits.connect, limits.connect)
    except ftplib.error_proto as error:
        raise _another(where, str(error)) from error


def _connect_at_once(ftp: _Greeted, address: Address, limits: ServerLimits, where: str) -> None:
    if not isinstance(ftp, FtpTls):
        raise TargetRefused(
            f"{where}: says nothing, and speaks TLS at once (implicit FTPS)", remedy="Write ftps:// in the URL of this target."
        ) from None
    _speak_tls_at_once.add((address.host, address.port))
    ftp.connect_at_once(address.host, address.port, limits.connect)


def _answer_to_tls(line: socket.socket, host: str) -> bytes:
    """Returns the first bytes that a server answers to a greeting in TLS."""
    outgoing = ssl.MemoryBIO()
    hello = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=host)
    with contextlib.suppress(ssl.SSLWantReadError):
        hello.do_handshake()
    with contextlib.suppress(OSError):
        line.settimeout(min(_ANSWER, line.gettimeout() or _ANSWER))
        line.sendall(outgoing.read())
        return line.recv(16)
    return b""


def _another(where: str, said: str) -> PhdError:
    """Returns the error for a server that speaks something else."""
    for begin, what, scheme in (("SSH-", "an SSH server", "sftp"), ("HTTP", "a web server", "")):
        if said.startswith(begin):
            remedy = f"Write {scheme}:// in the URL of this target." if scheme else "Name the port of its FTP server in the URL."
            return TargetRefused(f"{where}: is {what}, not an FTP server: {printable(said)}", remedy=remedy)
    return no_server(where, printable(said), "FTP")


def _session(spec: TargetSpec, address: Address) -> _Greeted:
    # latin-1 changes no byte, in both directions.
    if address.scheme == "ftps":
        return FtpTls(context=tls_context(spec, address), encoding="latin-1")
    return _Greeted(encoding="latin-1")


def _keep_alive(ftp: ftplib.FTP, limits: ServerLimits) -> None:
    """Sets keepalive: the control connection is silent during a transfer, and a router must not drop it."""
    ftp.timeout = limits.idle
    line = ftp.sock
    if line is not None:
        line.settimeout(limits.login)
        line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60)


def _authenticate(ftp: ftplib.FTP, spec: TargetSpec, user: str, password: str, where: str) -> None:
    sent = _as_sent(password)
    try:
        ftp.login(_as_sent(user), sent or ("phd@" if user == _ANONYMOUS else ""))
    except (ftplib.error_perm, ftplib.error_temp) as error:
        meaning = meaning_of(error)
        if meaning is Meaning.BUSY:
            raise too_many(where, str(error)) from None
        if isinstance(error, ftplib.error_temp) and meaning not in (Meaning.NEEDS_TLS, Meaning.LOGIN):
            raise
        reply = printable(str(error))
        if password:  # a server may repeat it
            for form in (password, printable(password), sent, printable(sent)):
                reply = reply.replace(form, "...")
        raise TargetRefused(
            f"{where}: refuses the login of {printable(user)}: {reply}",
            remedy=f"Write ftps:// in targets.{spec.name}.url: this server wants TLS."
            if meaning is Meaning.NEEDS_TLS
            else f"Check the user in targets.{spec.name}.url and the password in password_file; it is not tried again by itself.",
        ) from None
    if ftp.sock is not None:
        ftp.sock.settimeout(ftp.timeout)


def _as_sent(text: str) -> str:
    """Returns a user or a password as ftplib takes it, which sends latin-1: its bytes are those of UTF-8, as with names."""
    return text.encode("utf-8", "surrogateescape").decode("latin-1")


def _not_trusted(spec: TargetSpec, address: Address, limits: ServerLimits, error: ssl.SSLCertVerificationError) -> PhdError:
    shown, where = "none", server_name(spec, address)
    with contextlib.suppress(ftplib.Error, OSError, EOFError, PhdError):
        shown = certificate_fingerprint(_certificate(unchecked_context(spec, address), address, limits, where))
    known = ", ".join(known_certificates(spec.ca_file)) or (
        f"{printable(spec.ca_file)}, which holds none" if spec.ca_file else "what this machine trusts"
    )
    return TargetNotTrusted(
        f"{where}: its certificate is not trusted: {error.verify_message}; offered {shown}, trusted {known}",
        remedy=f"Compare it with the server's own, then record it with 'phd targets trust {spec.name}'"
        f"{'' if spec.ca_file else f', after targets.{spec.name}.ca_file names a file for it'}."
        " If nothing was changed there, somebody may be between.",
    )


def _unavailable(where: str, error: Exception, limits: ServerLimits) -> PhdError:
    if isinstance(error, ftplib.Error) and meaning_of(error) is Meaning.BUSY:
        return too_many(where, str(error))
    if isinstance(error, ftplib.error_perm):
        return TargetRefused(
            f"{where}: {printable(str(error))}", remedy="Does this server speak FTP, and TLS where the URL says ftps?"
        )
    if isinstance(error, ssl.SSLError) and (error.reason or "").endswith(_NO_TLS_IN_COMMON):
        return TargetRefused(
            f"{where}: no TLS in common: {error.reason}; phd speaks TLS 1.2 and 1.3, with ciphers that are not broken",
            remedy="Bring that server up to date. What it offers shows 'openssl s_client -starttls ftp -connect HOST:PORT'.",
        )
    if isinstance(error, ssl.SSLError) and error.reason == "WRONG_VERSION_NUMBER":
        return TargetRefused(
            f"{where}: answers in clear where TLS is to begin",
            remedy="Name the port of its FTPS in the url: on 990 phd speaks TLS at once, on any other after AUTH TLS.",
        )
    if isinstance(error, TimeoutError):
        what = f"no answer within {limits.connect:.0f} s"
    elif isinstance(error, OSError) and error.strerror:
        what = f"cannot be reached: {error.strerror}"
    else:
        what = printable(str(error))
    return no_server(where, what, "FTP", error)

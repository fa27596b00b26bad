"""Which certificates of an FTPS server are trusted: the checks of each TLS handshake, and what a certificate says of itself.

`ca_file` holds PEM, of two kinds:

    a certificate below a line `# phd: pinned for HOST:PORT`    a person compared it: it is the whole trust of that server
    any other                                                  an authority: what it signed passes, if name and dates are right

Of a pinned certificate only the digest counts; a server with another name, an old date or an issuer of its own is served. Each
other certificate of that server is refused, whoever signed it.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import hashlib
import re
import ssl
from typing import TYPE_CHECKING, Any

from restore_core.errors import ConfigurationError, TargetNotTrusted
from restore_core.naming import printable
from restore_core.targets.base import Address, TargetSpec
from restore_core.targets.remote.connection import server_name
from restore_core.targets.remote.trust import read_trusted

if TYPE_CHECKING:
    from cryptography import x509

_BLOCK = re.compile(
    rb"(?:^# phd: pinned for (?P<server>\S+)[ \t]*\r?\n\s*)?"
    rb"(?P<pem>-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----[^-]+-----END (?:X509 |TRUSTED )?CERTIFICATE-----)[ \t]*(?:\r?\n)?",
    re.MULTILINE,
)
_SHOWN = 3


class TargetContext(ssl.SSLContext):
    """Makes the TLS connections of one target, control and data: a pinned certificate is compared after each handshake."""

    spec: TargetSpec
    address: Address
    pins: frozenset[str]

    def wrap_socket(self, *given: Any, **options: Any) -> ssl.SSLSocket:
        """Shakes hands, as the base class does; raises `TargetNotTrusted` for a certificate that is not the pinned one."""
        line = super().wrap_socket(*given, **options)
        shown = line.getpeercert(binary_form=True) or b""
        if self.pins and certificate_fingerprint(shown) not in self.pins:
            line.close()
            raise TargetNotTrusted(
                f"{server_name(self.spec, self.address)}: THE CERTIFICATE HAS CHANGED: it shows {certificate_fingerprint(shown)},"
                f" {printable(self.spec.ca_file or '')} has {', '.join(sorted(self.pins))} pinned for it",
                remedy=f"If that was on purpose, record it with 'phd targets trust {self.spec.name}'; else somebody is between.",
            )
        return line


def tls_context(spec: TargetSpec, address: Address) -> TargetContext:
    """Returns a context that takes what is pinned for this server; if nothing is, what the authorities of `ca_file` signed.

    Without a `ca_file` these are the authorities of this machine. Raises `ConfigurationError` for a file that cannot be read.
    """
    content = read_trusted(spec.ca_file) if spec.ca_file else b""
    if content.strip() and not _BLOCK.search(content):
        raise ConfigurationError(
            f"targets.{spec.name}.ca_file: {printable(spec.ca_file or '')}: holds no certificate",
            remedy="Name a PEM file with the CA's certificate, or record the server's own with 'phd targets trust'.",
        )
    context = _context(spec, address)
    context.pins = frozenset(pinned(content, address))
    if not context.pins:
        context.verify_mode = ssl.CERT_REQUIRED
        context.check_hostname = True
        # A certificate of the file is an anchor, whoever signed it.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        _load_authorities(context, spec, content)
    return context


def unchecked_context(spec: TargetSpec, address: Address) -> TargetContext:
    """Returns a context that takes every certificate: only to show it to a person. Nothing is told to that server."""
    return _context(spec, address)


def _context(spec: TargetSpec, address: Address) -> TargetContext:
    context = TargetContext(ssl.PROTOCOL_TLS_CLIENT)
    context.spec, context.address, context.pins = spec, address, frozenset()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if spec.tls_max == "1.2":
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def _load_authorities(context: ssl.SSLContext, spec: TargetSpec, content: bytes) -> None:
    if spec.ca_file is None:
        context.load_default_certs()
        return
    found = _authorities(content)
    try:
        if found:
            context.load_verify_locations(cadata=b"\n".join(found).decode("ascii", "replace"))
    except (ValueError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"targets.{spec.name}.ca_file: {printable(spec.ca_file)}: a certificate in it is damaged: {printable(str(error))}",
            remedy="Copy that certificate into it again, or delete it there.",
        ) from error


def _authorities(content: bytes) -> list[bytes]:
    return [found["pem"] for found in _BLOCK.finditer(content) if found["server"] is None]


def data_not_trusted(context: TargetContext, error: ssl.SSLCertVerificationError) -> TargetNotTrusted:
    """Returns the error for a data connection that leads to another certificate than the control connection."""
    return TargetNotTrusted(
        f"{server_name(context.spec, context.address)}: the certificate of its data connection is not trusted: "
        f"{error.verify_message}",
        remedy="Is another server behind that address for data (a load balancer, NAT)? Else somebody is between.",
    )


def has_authorities(content: bytes) -> bool:
    """Whether a `ca_file` holds certificates that are not pinned for one server."""
    return bool(_authorities(content))


def pinned(content: bytes, address: Address) -> tuple[str, ...]:
    """Returns the fingerprints of the certificates that a `ca_file` has pinned for a server."""
    return _fingerprints(found["pem"] for found in _BLOCK.finditer(content) if found["server"] == _server(address))


def pinned_keys(file: str | None, address: Address) -> tuple[str, ...]:
    """Returns the digests of the public keys in the certificates that `ca_file` has pinned for a server, as curl takes them."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    found = []
    for block in _BLOCK.finditer(read_trusted(file)) if file else ():
        if block["server"] == _server(address):
            with contextlib.suppress(ValueError):
                key = x509.load_pem_x509_certificate(block["pem"]).public_key()
                der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
                found.append("sha256//" + base64.b64encode(hashlib.sha256(der).digest()).decode())
    return tuple(found)


def known_certificates(file: str | None) -> tuple[str, ...]:
    """Returns the fingerprints of the first certificates in `ca_file`."""
    return _fingerprints(found["pem"] for found in _BLOCK.finditer(read_trusted(file)))[:_SHOWN] if file else ()


def _fingerprints(pems: Any) -> tuple[str, ...]:
    found = []
    for pem in pems:
        with contextlib.suppress(ValueError):
            found.append(certificate_fingerprint(ssl.PEM_cert_to_DER_cert(pem.decode("ascii"))))
    return tuple(found)


def pin(der: bytes, address: Address) -> bytes:
    """Returns what is written to a `ca_file` to pin a certificate for a server."""
    pem = ssl.DER_cert_to_PEM_cert(der).rstrip().encode("ascii")
    return b"# phd: pinned for " + _server(address) + b"\n" + pem


def without_pins(content: bytes, address: Address) -> bytes:
    """Returns a `ca_file` without the certificates that are pinned for a server."""
    return _BLOCK.sub(lambda found: b"" if found["server"] == _server(address) else found[0], content)


def _server(address: Address) -> bytes:
    return f"{address.host.lower()}:{address.port}".encode()


def certificate_fingerprint(der: bytes) -> str:
    """Returns the SHA-256 of a certificate, as openssl prints it."""
    return "SHA256 " + hashlib.sha256(der).digest().hex(":").upper()


def describe(der: bytes, host: str, now: dt.datetime) -> tuple[str, ...]:
    """Returns what a certificate says of itself, in lines for a person, and what speaks against it."""
    from cryptography import x509

    try:
        shown = x509.load_der_x509_certificate(der)
        begin, end = shown.not_valid_before_utc, shown.not_valid_after_utc
        names = _names(shown)
        signer = "itself" if shown.issuer == shown.subject else printable(shown.issuer.rfc4514_string()) or "nobody"
        lines = [
            f"for     {printable(shown.subject.rfc4514_string()) or '-'}",
            f"names   {', '.join(map(printable, names)) or 'none'}",
            f"issuer  {signer}",
            f"valid   {begin:%Y-%m-%d} to {end:%Y-%m-%d}",
        ]
    except Exception:  # noqa: BLE001 - cryptography raises whatever a certificate provokes
        return ("what it says of itself cannot be read",)
    if now > end:
        lines.append(f"IT HAS EXPIRED, on {end:%Y-%m-%d}")
    if now < begin:
        lines.append(f"IT IS NOT VALID YET, before {begin:%Y-%m-%d}; is the clock of this machine right?")
    if not any(_fits(host, name) for name in names):
        lines.append(f"IT DOES NOT NAME {printable(host)}")
    return tuple(lines)


def _names(shown: x509.Certificate) -> list[str]:
    from cryptography import x509

    try:
        found = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in found if isinstance(name, x509.DNSName | x509.IPAddress)]


def _fits(host: str, name: str) -> bool:
    host, name = host.lower(), name.lower()
    return host == name or (name.startswith("*.") and host.partition(".")[2] == name[2:])

"""What a person has pinned is the trust of that server: by its digest, at every TLS door, whatever else the certificate says."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from restore_core.errors import ConfigurationError, TargetNotTrusted, TargetRefused, TargetUnavailable
from restore_core.targets.base import Address, TargetSpec
from restore_core.targets.ftp import certificate
from restore_core.targets.kinds import address_of, make_target, removal_of, server_identity
from restore_core.targets.remote.trust import record
from tests import servers
from tests.restore_core.targets.conftest import QUICK
from tests.servers import Served, certificates

NAS = Address(scheme="ftps", host="NAS", port=21, user="", root="")
SPEC = TargetSpec(name="nas", url="ftps://NAS/")


def listed(spec: TargetSpec) -> list[str]:
    target = make_target(spec, QUICK)
    try:
        return [each.path for each in target.listing()]
    finally:
        target.close()


@contextlib.contextmanager
def serving(folder: Path, shown: Path, *, implicit: bool = False) -> Iterator[Served]:
    with servers.pyftpd(folder, certificate=shown, implicit=implicit) as served:
        (served.store / "f").mkdir(exist_ok=True)
        (served.store / "f/x").write_bytes(b"abc")
        yield dataclasses.replace(served, spec=dataclasses.replace(served.spec, ca_file=str(folder / "trusted.pem")))


@pytest.mark.parametrize("kind", ["another name", "expired", "not yet", "private CA", "implicit"])
def test_a_certificate_that_a_person_has_trusted_is_trusted(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was recorded, and refused for its name, its dates or its issuer, with the advice to record it."""
    own = tmp_path / "own.pem"
    match kind:
        case "expired":
            certificates.make(own, days=(-900, -500))
        case "not yet":
            certificates.make(own, days=(100, 200))
        case "private CA":
            certificates.make(own, issuer=certificates.make(tmp_path / "ca.pem", name="My CA", authority=True))
        case _:
            certificates.make(own, name="nas.example")
    with serving(tmp_path, own, implicit=kind == "implicit") as served:
        if kind == "implicit":  # found out before, which takes a while
            port = address_of(served.spec).port
            monkeypatch.setattr("restore_core.targets.ftp.login._speak_tls_at_once", {("127.0.0.1", port), ("localhost", port)})
        with pytest.raises(TargetNotTrusted, match="its certificate is not trusted") as caught:
            listed(served.spec)
        assert "phd targets trust ftps" in caught.value.remedy
        shown = server_identity(served.spec, QUICK)
        assert not shown.trusted
        record(shown)
        assert listed(served.spec) == ["f/x"]
        assert server_identity(served.spec, QUICK).trusted
        with pytest.raises(TargetNotTrusted):  # it is pinned for that server, and for no other name of it
            listed(dataclasses.replace(served.spec, url=served.spec.url.replace("127.0.0.1", "localhost")))


@pytest.mark.parametrize("implicit", [False, True])
def test_the_command_that_removes_a_file_trusts_what_is_pinned_and_nothing_else(
    tmp_path: Path, implicit: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """curl was given the pinned certificate as an authority, and refused it for its name."""
    certificates.make(tmp_path / "own.pem", name="nas.example")
    other = certificates.make(tmp_path / "other.pem", name="nas.example").read_text().partition("-----BEGIN PRIVATE")[0]
    with serving(tmp_path, tmp_path / "own.pem", implicit=implicit) as served:
        if implicit:  # found out before, which takes a while
            known = {("127.0.0.1", address_of(served.spec).port)}
            monkeypatch.setattr("restore_core.targets.ftp.login._speak_tls_at_once", known)
        shown = server_identity(served.spec, QUICK)
        record(shown)

        def delete() -> int:
            command = removal_of(served.spec, "f/x").replace("-u phd", f"-u 'phd:{servers.PASSWORD}'")
            return subprocess.run(["sh", "-c", command], capture_output=True, check=False, timeout=20).returncode

        Path(served.spec.ca_file or "").write_bytes(certificate.pin(ssl.PEM_cert_to_DER_cert(other), address_of(served.spec)))
        assert (delete(), (served.store / "f/x").exists()) == (90, True)  # 90: the key is not the pinned one
        Path(served.spec.ca_file or "").write_bytes(shown.record)
        assert (delete(), (served.store / "f/x").exists()) == (0, False)


def test_any_other_certificate_of_a_pinned_server_is_refused(tmp_path: Path) -> None:
    """Also one that the pinned one has signed, or a CA in the same file."""
    ca = certificates.make(tmp_path / "ca.pem", name="My CA", authority=True)
    old = certificates.make(tmp_path / "old.pem", authority=True)
    for number, issuer in enumerate((ca, old)):
        with serving(tmp_path, certificates.make(tmp_path / f"{number}.pem", issuer=issuer)) as served:
            file, address = Path(str(served.spec.ca_file)), address_of(served.spec)
            shutil.copy(ca, file)
            if issuer is ca:
                assert listed(served.spec) == ["f/x"]
                assert server_identity(served.spec, QUICK).vouched
            before = certificate.pin(ssl.PEM_cert_to_DER_cert(old.read_text().partition("-----BEGIN PRIVATE")[0]), address)
            file.write_bytes(file.read_bytes() + before + b"\n")
            with pytest.raises(TargetNotTrusted, match="THE CERTIFICATE HAS CHANGED") as caught:
                listed(served.spec)
            shown = server_identity(served.spec, QUICK)
            assert (shown.trusted, shown.vouched) == (False, False)
            assert shown.fingerprint in str(caught.value)
            assert shown.known[0] in str(caught.value)
            record(shown)
            assert listed(served.spec) == ["f/x"]
            assert before not in file.read_bytes()
            assert ca.read_text().partition("-----BEGIN PRIVATE")[0] in file.read_text()


def test_a_data_connection_to_another_server_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(tmp_path, certificates.make(tmp_path / "own.pem")) as served:
        record(server_identity(served.spec, QUICK))
        shaken = certificate.TargetContext.wrap_socket

        def other_for_data(self: certificate.TargetContext, *given: Any, **options: Any) -> ssl.SSLSocket:
            if "session" in options:
                self.pins = frozenset(("SHA256 AA",))
            return shaken(self, *given, **options)

        monkeypatch.setattr(certificate.TargetContext, "wrap_socket", other_for_data)
        with pytest.raises(TargetNotTrusted, match="THE CERTIFICATE HAS CHANGED"):
            listed(served.spec)


def test_a_data_connection_whose_certificate_fails_its_check_is_not_tried_again(
    pyftpd_tls: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    shaken = certificate.TargetContext.wrap_socket

    def other_for_data(self: certificate.TargetContext, *given: Any, **options: Any) -> ssl.SSLSocket:
        if options.pop("session", None):  # a session that is resumed shows no certificate
            options["server_hostname"] = "nas.example"
        return shaken(self, *given, **options)

    monkeypatch.setattr(certificate.TargetContext, "wrap_socket", other_for_data)
    with pytest.raises(TargetNotTrusted, match="data connection"):
        listed(pyftpd_tls.spec)


def test_what_a_server_without_tls_says_is_told(pyftpd: Served, tmp_path: Path) -> None:
    """It was "shows no certificate. Is it up?", after a clear reply."""
    spec = dataclasses.replace(pyftpd.spec, url=pyftpd.spec.url.replace("ftp:", "ftps:"), ca_file=str(tmp_path / "none"))
    with pytest.raises(TargetUnavailable, match="AUTH"):
        server_identity(spec, QUICK)
    free = dataclasses.replace(spec, url=f"ftps://127.0.0.1:{servers.free_port()}/")
    with pytest.raises(TargetUnavailable, match="refused") as caught:
        server_identity(free, QUICK)
    assert "nothing listens there" in caught.value.remedy


def test_pins_are_of_one_server_each(tmp_path: Path) -> None:
    der = ssl.PEM_cert_to_DER_cert(certificates.make(tmp_path / "a.pem").read_text().partition("-----BEGIN PRIVATE")[0])
    other = dataclasses.replace(NAS, port=990)
    content = b"# mine\n" + certificate.pin(der, NAS) + b"\n" + certificate.pin(der, other) + b"\n"
    assert certificate.pinned(content, NAS) == (certificate.certificate_fingerprint(der),)
    assert certificate.pinned(content, dataclasses.replace(NAS, host="nas")) == (certificate.certificate_fingerprint(der),)
    assert not certificate.has_authorities(content)
    left = certificate.without_pins(content, NAS)
    assert left == b"# mine\n" + certificate.pin(der, other) + b"\n"
    assert certificate.without_pins(left.replace(b"\n", b"\r\n"), other) == b"# mine\r\n"


def test_a_file_without_a_certificate_and_a_damaged_one_are_said(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    spec = dataclasses.replace(SPEC, ca_file=str(file))
    for text, said in (
        ("hello\n", "holds no certificate"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "damaged"),
    ):
        file.write_text(text)
        with pytest.raises(ConfigurationError, match=said):
            certificate.tls_context(spec, NAS)


def test_a_certificate_is_described_with_what_speaks_against_it(tmp_path: Path) -> None:
    def said(host: str, **how: Any) -> str:
        text = certificates.make(tmp_path / "c.pem", **how).read_text().partition("-----BEGIN PRIVATE")[0]
        return "\n".join(certificate.describe(ssl.PEM_cert_to_DER_cert(text), host, dt.datetime.now(dt.UTC)))

    ca = certificates.make(tmp_path / "ca.pem", name="My CA", authority=True)
    good = said("127.0.0.1", issuer=ca)
    assert "names   127.0.0.1" in good
    assert "issuer  CN=My CA" in good
    assert f"{certificates.NOW:%Y-%m}" in good
    assert "IT " not in good
    assert "IT HAS EXPIRED" in said("127.0.0.1", days=(-9, -3))
    assert "IT IS NOT VALID YET" in said("127.0.0.1", days=(3, 9))
    assert "IT DOES NOT NAME 127.0.0.1" in said("127.0.0.1", name="nas")
    assert "IT DOES NOT" not in said("nas.example", name="*.example")
    assert "\x1b" not in said("127.0.0.1", name="a\x1b[2Jb")
    assert certificate.describe(b"junk", "x", dt.datetime.now(dt.UTC)) == ("what it says of itself cannot be read",)


def test_a_server_without_a_cipher_in_common_is_told_so(tmp_path: Path) -> None:
    """The advice was to look whether the machine is up."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ECDHE-ECDSA-AES128-CCM")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificates.make(tmp_path / "own.pem"))
    with socket.create_server(("127.0.0.1", 0)) as door:

        def serve() -> None:
            for _ in range(2):
                line, _ = door.accept()
                with line, contextlib.suppress(OSError):
                    line.sendall(b"220 hello\r\n")
                    line.recv(100)
                    line.sendall(b"234 go on\r\n")
                    context.wrap_socket(line, server_side=True)

        threading.Thread(target=serve, daemon=True).start()
        spec = TargetSpec(name="nas", url=f"ftps://u@127.0.0.1:{door.getsockname()[1]}/", ca_file=str(tmp_path / "none"))
        for ask in (lambda: listed(spec), lambda: server_identity(spec, QUICK)):
            with pytest.raises(TargetRefused, match="no TLS in common") as caught:
                ask()
            assert "openssl s_client" in caught.value.remedy
            assert not caught.value.try_again
